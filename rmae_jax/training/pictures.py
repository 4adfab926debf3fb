"""Pictures of what a model completes: photographs and regions, from the visible quarter of their patches."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int, UInt, UInt8

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rmae_jax.model import RMAE, Mask, denormalize, draw_masks, normalize, region_probability, unpack_regions
from rmae_jax.model.patches import patchify, unpatchify
from rmae_jax.model.rmae import Reconstruction

SHOWN_REGIONS = 3  # of each photograph's K
GRAY = 0.55  # of hidden patches


def draw(
    model: RMAE,
    images: UInt8[np.ndarray, "batch height width 3"],
    regions: UInt[np.ndarray, "batch height width"] | None,
    path: Path,
    seed: int = 0,
) -> None:
    """Draws a row for each photograph and writes the picture to `path`.

    A row is the photograph, the masked input and the reconstruction; then for the largest regions the visible part,
    the completed region and the truth. Visible patches are pasted into what the model predicts. The masks depend on
    `seed` alone, so that pictures of a run can be compared.
    """
    config = model.config
    num_patches = (images.shape[1] // config.patch_size) * (images.shape[2] // config.patch_size)
    masks = draw_masks(jax.random.key(seed), config, len(images), num_patches)
    maps = None if config.objective == "mae" else unpack_regions(jnp.asarray(regions), config.num_regions)
    predicted = _reconstruct(model, normalize(jnp.asarray(images)), maps, *masks)
    columns = [(images, {})]
    if predicted.pixels is not None:
        columns += _pixel_columns(model, images, np.asarray(predicted.pixels, np.float32), masks[0])
    titles = ["photograph", "visible", "reconstructed"][: len(columns)]
    if maps is not None:
        probability = region_probability(predicted.regions.astype(jnp.float32), config.region_loss)
        columns += _region_columns(model, np.asarray(maps), np.asarray(probability), masks[1])
        titles += ["region: visible", "completed", "truth"] * SHOWN_REGIONS
    _figure(columns, titles, path)


@jax.jit
def _reconstruct(
    model: RMAE, images: jax.Array, regions: jax.Array | None, mask: Mask, region_mask: Mask
) -> Reconstruction:
    return model.reconstruct(images, regions, mask, region_mask)


def unnormalized(
    predicted: Float[np.ndarray, "batch patches pixels"],
    images: Float[np.ndarray, "batch height width 3"],
    hidden: Bool[np.ndarray, "batch patches"],
    patch_size: int,
) -> Float[np.ndarray, "batch patches pixels"]:
    """Predictions of normalised pixels as colours, for pictures.

    A model trained with norm_pix_loss predicts each patch up to its mean and variance, which nobody knows for a hidden
    patch. They are interpolated from the visible patches of the same image (weights 1 / distance^4), never taken from
    the truth.
    """
    patches = np.asarray(patchify(images, patch_size))
    side = images.shape[2] // patch_size
    places = np.stack(np.divmod(np.arange(patches.shape[1]), side), axis=1).astype(np.float32)
    distances = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    weights = np.where(hidden[:, None, :], 0, 1 / (distances + 1e-3) ** 2)
    weights /= weights.sum(axis=-1, keepdims=True)
    colours = patches.reshape(*patches.shape[:2], -1, 3)
    mean = np.einsum("bij,bjc->bic", weights, colours.mean(axis=2))
    std = weights @ patches.std(axis=-1, keepdims=True)
    # The prediction's own mean carries how the three colours differ; the visible patches' means say it better.
    detail = predicted.reshape(colours.shape)
    detail = detail - detail.mean(axis=2, keepdims=True)
    return (detail * std[..., None] + mean[:, :, None]).reshape(predicted.shape)


def _pixel_columns(model: RMAE, images: np.ndarray, predicted: np.ndarray, mask: Mask) -> list:
    patch, hidden = model.config.patch_size, np.asarray(mask.masked)
    inputs = np.asarray(normalize(jnp.asarray(images)))
    if model.config.norm_pix_loss:
        predicted = unnormalized(predicted, inputs, hidden, patch)
    patches = np.asarray(patchify(inputs, patch))
    grid = images.shape[1] // patch, images.shape[2] // patch
    reconstructed = unpatchify(np.where(hidden[..., None], predicted, patches), grid, patch)
    shown = np.where(_to_map(hidden, grid, patch)[..., None], GRAY, images / 255)
    return [(shown, {}), (np.asarray(denormalize(jnp.asarray(reconstructed))), {})]


def _region_columns(model: RMAE, maps: np.ndarray, probability: np.ndarray, mask: Mask) -> list:
    patch = model.config.patch_size
    grid = maps.shape[2] // patch, maps.shape[3] // patch
    hidden = _to_map(np.asarray(mask.masked), grid, patch)
    probability = unpatchify(probability, grid, patch)[..., 0]
    columns = []
    chosen = np.stack([_largest(example) for example in maps])
    for i in range(SHOWN_REGIONS):
        truth = np.stack([m[c[i]] for m, c in zip(maps, chosen, strict=True)])
        completed = np.where(hidden, np.stack([p[c[i]] for p, c in zip(probability, chosen, strict=True)]), truth)
        columns += [
            (np.where(hidden, GRAY, truth), {}),
            (completed, {"iou": _iou(completed, truth, hidden)}),
            (truth, {}),
        ]
    return columns


def _largest(maps: Float[np.ndarray, "regions height width"]) -> Int[np.ndarray, " shown"]:
    """Indices of the largest maps; those that cover nearly everything, and repeated ones, come last."""
    area = maps.sum(axis=(1, 2))
    area[area > 0.9 * maps[0].size] -= maps[0].size
    first = np.unique(maps.reshape(len(maps), -1), axis=0, return_index=True)[1]
    area[np.setdiff1d(np.arange(len(maps)), first)] -= 2 * maps[0].size
    return np.resize(np.argsort(-area, kind="stable"), SHOWN_REGIONS)


def _iou(completed: np.ndarray, truth: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Intersection over union inside the hidden patches, for each example; nan where neither has a pixel there."""
    predicted, true = (completed > 0.5) & hidden, (truth > 0.5) & hidden
    union = (predicted | true).sum(axis=(1, 2))
    return np.where(union, (predicted & true).sum(axis=(1, 2)) / np.maximum(union, 1), np.nan)


def _to_map(
    hidden: Bool[np.ndarray, "batch patches"], grid: tuple[int, int], patch: int
) -> Bool[np.ndarray, "batch height width"]:
    return hidden.reshape(-1, *grid).repeat(patch, axis=1).repeat(patch, axis=2)


def _figure(columns: list, titles: list[str], path: Path) -> None:
    rows = len(columns[0][0])
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(1.35 * len(columns), 1.4 * rows), layout="constrained", squeeze=False
    )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    for j, (values, notes) in enumerate(columns):
        for i, axis in enumerate(axes[:, j]):
            axis.imshow(values[i], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if "iou" in notes:
                axis.set_xlabel(f"IoU {notes['iou'][i]:.2f}", fontsize=6, labelpad=1)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=110, format="png")
    plt.close(figure)
    partial.replace(path)

"""Pictures of what a model completes: photographs and regions, from the visible quarter of their patches."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt, UInt8
from matplotlib.figure import Figure

from rmae_jax.completion import Completion, complete
from rmae_jax.model import RMAE, draw_masks, unpack_regions

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
    maps = None
    if config.objective != "mae":
        maps = np.asarray(unpack_regions(jnp.asarray(regions), config.num_regions))
    completed = complete(model, images, maps, *masks)
    columns, titles = [(images, {})], ["photograph"]
    if completed.pixels is not None:
        visible = np.where(completed.hidden[..., None], GRAY, images / 255)
        columns += [(visible, {}), (completed.pixels, {})]
        titles += ["visible", "reconstructed"]
    if maps is not None:
        columns += _region_columns(maps, completed)
        titles += ["region: visible", "completed", "truth"] * SHOWN_REGIONS
    _figure(columns, titles, path)


def _region_columns(maps: Float[np.ndarray, "batch regions height width"], completed: Completion) -> list:
    hidden, columns = completed.regions_hidden, []
    chosen = np.stack([_largest(example) for example in maps])
    rows = np.arange(len(maps))
    for shown in chosen.T:
        truth, made = maps[rows, shown], completed.regions[rows, shown]
        columns += [
            (np.where(hidden, GRAY, truth), {}),
            (made, {"iou": _iou(made, truth, hidden)}),
            (truth, {}),
        ]
    return columns


def _largest(maps: Float[np.ndarray, "regions height width"]) -> Int[np.ndarray, " shown"]:
    """Indices of the largest maps; those that cover nearly everything, and repeated ones, come last."""
    area = maps.sum(axis=(1, 2))
    area[area > 0.9 * maps[0].size] -= maps[0].size
    first = {one.tobytes(): index for index, one in reversed(list(enumerate(maps)))}
    area[np.setdiff1d(np.arange(len(maps)), list(first.values()))] -= 2 * maps[0].size
    return np.resize(np.argsort(-area, kind="stable"), SHOWN_REGIONS)


def _iou(completed: np.ndarray, truth: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Intersection over union inside the hidden patches, for each example; nan where neither has a pixel there."""
    predicted, true = (completed > 0.5) & hidden, (truth > 0.5) & hidden
    union = (predicted | true).sum(axis=(1, 2))
    return np.where(union, (predicted & true).sum(axis=(1, 2)) / np.maximum(union, 1), np.nan)


def _figure(columns: list, titles: list[str], path: Path) -> None:
    """Draws the pictures as one, and words over it: a hundred axes would take matplotlib a second."""
    rows, height, width = columns[0][0].shape[:3]
    gap, line = max(2, width // 18), max(4, height // 6)  # beside each picture; above it, and below the last row
    canvas = np.full((line + rows * (height + line), len(columns) * (width + gap), 3), 255, np.uint8)
    figure = Figure(figsize=(1.25 * canvas.shape[1] / width, 1.25 * canvas.shape[0] / height), dpi=110)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    for j, ((values, notes), title) in enumerate(zip(columns, titles, strict=True)):
        left = gap // 2 + j * (width + gap)
        axis.text(left + width / 2, line * 0.5, title, fontsize=8, ha="center", va="center")
        if values.dtype != np.uint8:
            values = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
        for i, one in enumerate(values if values.ndim == 4 else values[..., None]):
            top = line + i * (height + line)
            canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = 0  # a frame
            canvas[top : top + height, left : left + width] = one
            if "iou" in notes:
                below = top + height + line * 0.4
                axis.text(left + width / 2, below, f"IoU {notes['iou'][i]:.2f}", fontsize=6, ha="center", va="center")
    axis.imshow(canvas, aspect="auto")
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, format="png", pil_kwargs={"compress_level": 1})
    partial.replace(path)

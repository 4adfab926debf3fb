"""Completion of images and region maps by a model, with the visible patches unchanged."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8, UInt16

from rmae_jax.model import RMAE, Mask, denormalize, normalize, region_probability
from rmae_jax.model.patches import patchify, unpatchify
from rmae_jax.model.rmae import Reconstruction

GRAY = 0.55  # brightness of hidden patches in pictures
AREAS = (0.01, 0.9)  # range of a region's share of the image: smaller ones fit into a patch, larger ones are trivial


class Region(NamedTuple):
    """A region of an image's label maps: the pixels where `layers[layer] == label`, and their number (area)."""

    layer: int
    label: int
    area: int


@dataclasses.dataclass(frozen=True)
class Completion:
    """A batch completed by a model; predictions of a branch that the model does not have are None.

    Attributes:
      hidden: (B, H, W), whether a pixel's patch is masked.
      pixels: (B, H, W, 3), RGB in 0..1: predictions in masked patches, the input in visible ones.
      regions_hidden: (B, H, W), whether a pixel's patch is masked in the region maps.
      regions: (B, K, H, W), probabilities that a pixel is in the region; in visible patches the input, 0 or 1.
    """

    hidden: Bool[np.ndarray, "batch height width"]
    pixels: Float[np.ndarray, "batch height width 3"] | None
    regions_hidden: Bool[np.ndarray, "batch height width"]
    regions: Float[np.ndarray, "batch regions height width"] | None


def complete(
    model: RMAE,
    images: UInt8[np.ndarray, "batch height width 3"],
    maps: Float[np.ndarray, "batch regions height width"] | None,
    mask: Mask,
    region_mask: Mask | None = None,
) -> Completion:
    """Completes images and region maps from their visible patches.

    A model trained with norm_pix_loss predicts patches without their mean and contrast; `to_colours` estimates these.
    For images of another size than the model's, positions are interpolated.

    Args:
      model: a model of any objective.
      images: RGB images.
      maps: region maps of 0 and 1; not used by the "mae" objective.
      mask: the images' mask.
      region_mask: the maps' mask; by default that of `mask`'s permutation and the model's region_mask_ratio.

    Raises:
      ValueError: the size is not a multiple of the patch size, or the objective needs maps and `maps` is None.
    """
    model = model.at_size(*images.shape[1:3])
    config, patch = model.config, model.config.patch_size
    grid = images.shape[1] // patch, images.shape[2] // patch
    if region_mask is None:
        region_mask = mask.with_ratio(config.region_mask_ratio)
    inputs = normalize(jnp.asarray(images))
    predicted = _reconstruct(model, inputs, None if config.objective == "mae" else maps, mask, region_mask)
    masked, pixels, regions = np.asarray(mask.masked), None, None
    regions_hidden = to_pixels(np.asarray(region_mask.masked), grid, patch)
    if predicted.pixels is not None:
        inputs, pixels = np.asarray(inputs), np.asarray(predicted.pixels, np.float32)
        if config.norm_pix_loss:
            pixels = to_colours(pixels, inputs, masked, patch)
        pixels = np.where(masked[..., None], pixels, patchify(inputs, patch))
        pixels = np.asarray(denormalize(unpatchify(pixels, grid, patch)))
    if predicted.regions is not None:
        regions = region_probability(predicted.regions.astype(jnp.float32), config.region_loss)
        regions = np.asarray(unpatchify(regions, grid, patch)[..., 0])
        regions = np.where(regions_hidden[:, None], regions, maps)
    return Completion(to_pixels(masked, grid, patch), pixels, regions_hidden, regions)


def candidate_regions(layers: UInt16[np.ndarray, "layers height width"]) -> list[Region]:
    """Returns the regions of an image's label maps that cover 1 to 90 % of the image."""
    low, high = (share * layers.shape[1] * layers.shape[2] for share in AREAS)
    return [
        Region(layer, label, int(area))
        for layer, labels in enumerate(layers)
        for label, area in enumerate(np.bincount(labels.reshape(-1)))
        if label and low <= area <= high
    ]


def repeat_regions(
    regions: Bool[np.ndarray, "regions height width"], count: int
) -> Float[np.ndarray, "{count} height width"]:
    """Repeats regions to `count` maps, as in pre-training; all maps are empty if there are no regions."""
    return np.resize(regions, (count, *regions.shape[1:])).astype(np.float32)


@jax.jit
def _reconstruct(
    model: RMAE, images: jax.Array, regions: jax.Array | None, mask: Mask, region_mask: Mask
) -> Reconstruction:
    return model.reconstruct(images, regions, mask, region_mask)


def to_colours(
    predicted: Float[np.ndarray, "batch patches pixels"],
    images: Float[np.ndarray, "batch height width 3"],
    hidden: Bool[np.ndarray, "batch patches"],
    patch_size: int,
) -> Float[np.ndarray, "batch patches pixels"]:
    """Converts predictions of normalised pixels to colours, for pictures.

    A model trained with norm_pix_loss predicts each patch without its mean and variance, which are unknown for a hidden
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
    # The prediction's mean contains the differences of the colours, which the visible patches' means estimate better.
    detail = predicted.reshape(colours.shape)
    detail = detail - detail.mean(axis=2, keepdims=True)
    return (detail * std[..., None] + mean[:, :, None]).reshape(predicted.shape)


def to_pixels(
    values: Shaped[np.ndarray, "*batch patches"], grid: tuple[int, int], patch_size: int
) -> Shaped[np.ndarray, "*batch height width"]:
    """Expands one value per patch of a grid to one value per pixel."""
    values = values.reshape(*values.shape[:-1], *grid)
    return values.repeat(patch_size, axis=-2).repeat(patch_size, axis=-1)

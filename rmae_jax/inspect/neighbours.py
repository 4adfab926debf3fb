"""Nearest neighbours of images and of patches, by the similarity of their features."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from rmae_jax.inspect.features import FeatureMaps, cosine
from rmae_jax.inspect.figures import ACCENTS, panels, show, styled
from rmae_jax.inspect.similarity import Patch, check_patch, mark
from rmae_jax.photographs import Photograph


@dataclasses.dataclass(frozen=True)
class NearestPatches:
    """The patches that are nearest to a patch, the nearest first.

    Attributes:
      places: image index, row and column of each patch.
      similarity: cosine similarity of the features.
    """

    places: Int[np.ndarray, "nearest 3"]
    similarity: Float[np.ndarray, " nearest"]


def nearest_images(
    vectors: Float[np.ndarray, "images features"], count: int = 4
) -> tuple[Int[np.ndarray, "images nearest"], Float[np.ndarray, "images nearest"]]:
    """Finds the other images that are nearest to each image by cosine similarity, the nearest first.

    Returns:
      Their indices and similarities; fewer than `count` if there are fewer other images.

    Raises:
      ValueError: there is only one image.
    """
    if len(vectors) < 2:
        raise ValueError("nearest neighbours need at least two images")
    similarity = cosine(vectors, vectors)
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(vectors) - 1)]
    return nearest, np.take_along_axis(similarity, nearest, axis=1)


def nearest_patches(patches: FeatureMaps, image: int, patch: Patch, count: int = 4) -> NearestPatches:
    """Finds the patches of all other images that are nearest to one patch, by cosine similarity.

    Patches of the same image are skipped: adjacent patches are nearly always the nearest, and that reveals little.

    Args:
      patches: patch features of all images.
      image: index of the patch's image.
      patch: row and column of the patch.
      count: number of patches to find; fewer are returned if there are fewer.

    Raises:
      ValueError: there is no such patch, or no other image.
    """
    if len(patches) < 2:
        raise ValueError("nearest neighbours need at least two images")
    check_patch(patches[image], patch)
    similarity = [cosine(one, patches[image][patch]).reshape(-1) for one in patches]
    similarity[image] = np.full_like(similarity[image], -np.inf)
    joined, others = np.concatenate(similarity), sum(map(len, similarity)) - len(similarity[image])
    nearest = np.argsort(-joined, kind="stable")[: min(count, others)]
    places = [(i, row, column) for i, one in enumerate(patches) for row, column in np.ndindex(one.shape[:2])]
    return NearestPatches(np.array(places)[nearest], joined[nearest])


@styled
def draw_nearest_images(
    photographs: Sequence[Photograph],
    image: int,
    nearest: Int[np.ndarray, " nearest"],
    similarity: Float[np.ndarray, " nearest"],
) -> Figure:
    """Draws an image and its nearest images, with their similarity."""
    aspect = max(one.image.shape[0] / one.image.shape[1] for one in (photographs[i] for i in (image, *nearest)))
    figure, axes = panels(1, 1 + len(nearest), aspect, text=0.36)
    show(axes[0, 0], photographs[image].image, "photograph")
    for place, (axis, other, value) in enumerate(zip(axes[0, 1:], nearest, similarity, strict=True), start=1):
        show(axis, photographs[other].image, "nearest" if place == 1 else f"{place}.", f"{value:.3f}")
    return figure


@styled
def draw_nearest_patches(
    photographs: Sequence[Photograph], image: int, patch: Patch, found: NearestPatches, patch_size: int
) -> Figure:
    """Draws a patch and its nearest patches with their similarity, each framed within its surroundings."""
    figure, axes = panels(1, 1 + len(found.places), 1.0, text=0.36)
    places = [(image, *patch), *found.places.tolist()]
    titles = ["patch", "nearest", *(f"{place}." for place in range(2, len(places)))]
    notes = ["", *(f"{value:.3f}" for value in found.similarity)]
    for axis, (which, row, column), title, note in zip(axes[0], places, titles, notes, strict=True):
        around, inner = _crop_around(photographs[which].image, (row, column), patch_size)
        show(axis, around, title, note)
        mark(axis, inner, patch_size, ACCENTS[0])
    return figure


def _crop_around(
    image: UInt8[np.ndarray, "height width 3"], patch: Patch, patch_size: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Patch]:
    """Returns five by five patches around one, shifted into the image at its edges, and its place among them."""
    starts = []
    for place, side in zip(patch, image.shape, strict=False):
        patches = side // patch_size
        starts.append(max(0, min(place - 2, patches - 5)))
    cut = tuple(slice(start * patch_size, (start + 5) * patch_size) for start in starts)
    return image[cut], (patch[0] - starts[0], patch[1] - starts[1])

"""Similarity of the patches of a photograph, by their features."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rmae_jax.inspect.features import PatchFeatures, cosine
from rmae_jax.inspect.figures import ACCENTS, panels, show, styled
from rmae_jax.photographs import Photograph

Patch = tuple[int, int]


def patch_similarity(patches: PatchFeatures, patch: Patch) -> Float[np.ndarray, "rows columns"]:
    """Returns the cosine similarity of one patch's features with those of every patch of the image.

    Args:
      patches: patch features of an image.
      patch: row and column of the patch.

    Raises:
      ValueError: there is no such patch.
    """
    check_patch(patches, patch)
    return cosine(patches, patches[patch])


def check_patch(patches: PatchFeatures, patch: Patch) -> None:
    """Raises ValueError if there is no such patch."""
    rows, columns = patches.shape[:2]
    if not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
        raise ValueError(f"no patch {patch}: the image has {rows} rows and {columns} columns of patches, from 0")


def spread_patches(patches: PatchFeatures) -> list[Patch]:
    """Returns three patches of an image: one to the upper left, the middle one, one to the lower right."""
    rows, columns = patches.shape[:2]
    return [(rows * part // 4, columns * part // 4) for part in (1, 2, 3)]


@styled
def draw_patch_similarity(
    photograph: Photograph, chosen: Sequence[Patch], maps: Sequence[Float[np.ndarray, "rows columns"]]
) -> Figure:
    """Draws the photograph with the chosen patches framed, and the similarity map of each."""
    height, width = photograph.image.shape[:2]
    figure, axes = panels(1, 1 + len(maps), height / width, text=0.36)
    show(axes[0, 0], photograph.image, "photograph")
    for axis, patch, one, colour in zip(axes[0, 1:], chosen, maps, ACCENTS, strict=False):
        side = width // one.shape[1]
        mark(axes[0, 0], patch, side, colour)
        show(axis, one, f"patch {patch[0]}, {patch[1]}", f"{one.min():.2f} to 1", vmin=one.min(), cmap="viridis")
        mark(axis, patch, 1, colour)
    return figure


def mark(axis: Axes, patch: Patch, side: float | int, colour: str) -> None:
    """Draws a frame around a patch of `side` pixels."""
    row, column = patch
    corner = (column * side - 0.5, row * side - 0.5)  # imshow centres a pixel on its index
    axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.8))

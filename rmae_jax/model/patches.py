"""Conversion of images to patches and back."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped


def patchify(
    maps: Shaped[Array | np.ndarray, "*batch height width channels"], patch: int
) -> Shaped[Array | np.ndarray, "*batch patches pixels"]:
    """Cuts maps into patches, row by row; a patch's pixels are in (row, column, channel) order.

    Args:
      maps: (..., H, W, C), H and W multiples of `patch`.
      patch: side of a patch in pixels.

    Returns:
      (..., H/patch * W/patch, patch * patch * C).
    """
    *batch, height, width, channels = maps.shape
    rows, columns = height // patch, width // patch
    grid = maps.reshape(*batch, rows, patch, columns, patch, channels)
    return jnp.moveaxis(grid, -4, -3).reshape(*batch, rows * columns, patch * patch * channels)


def unpatchify(
    patches: Shaped[Array | np.ndarray, "*batch patches pixels"], grid: tuple[int, int], patch: int
) -> Shaped[Array, "*batch height width channels"]:
    """Inverts `patchify`; `grid` is the number of patches in (height, width)."""
    *batch, _, pixels = patches.shape
    rows, columns = grid
    blocks = patches.reshape(*batch, rows, columns, patch, patch, pixels // (patch * patch))
    return jnp.moveaxis(blocks, -3, -4).reshape(*batch, rows * patch, columns * patch, -1)

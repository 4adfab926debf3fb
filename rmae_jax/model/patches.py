"""Images to patches and back, and the fixed position table."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


class Grid(NamedTuple):
    """The patches of an image: how many, and how far apart neighbours are in the position tables."""

    rows: int
    columns: int
    scale: float = 1.0

    @property
    def num_patches(self) -> int:
        """L."""
        return self.rows * self.columns

    def positions(self, width: int) -> Float[np.ndarray, "patches width"]:
        """The position table of this grid, see `sincos_positions`."""
        return sincos_positions(width, (self.rows, self.columns), self.scale)


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
    """The inverse of `patchify`; `grid` is the number of patches in (height, width)."""
    *batch, _, pixels = patches.shape
    rows, columns = grid
    blocks = patches.reshape(*batch, rows, columns, patch, patch, pixels // (patch * patch))
    return jnp.moveaxis(blocks, -3, -4).reshape(*batch, rows * patch, columns * patch, -1)


def sincos_positions(width: int, grid: tuple[int, int], scale: float = 1.0) -> Float[np.ndarray, "patches width"]:
    """The fixed two-dimensional sine-cosine position table of MAE, without a row for cls (which is zero).

    The first half of the channels encodes the column, the second the row; each half is sines, then cosines, at
    frequencies 10000^(-i / (width / 4)).

    Args:
      width: number of channels.
      grid: number of patches in (height, width).
      scale: distance of neighbouring patches. At 0.5, a grid of 28 x 28 lies evenly over the positions of one of
        14 x 14: the coarser table, interpolated exactly, since the formula holds between its rows too.

    Raises:
      ValueError: the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a two-dimensional sine-cosine table needs a width that is a multiple of 4, not {width}")
    frequencies = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width // 4))
    rows, columns = np.meshgrid(*((np.arange(side) + 0.5) * scale - 0.5 for side in grid), indexing="ij")
    angles = [position.reshape(-1, 1) * frequencies for position in (columns, rows)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)

"""Position tables: the fixed sine-cosine table of MAE, and its interpolation to images of another size."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


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


def scale_at_size(scale: float, image_size: int, other_size: int) -> float:
    """Returns the position scale that lays images of another size over the positions of the size trained at.

    Args:
      scale: position scale at `image_size`.
      image_size: that the model was trained at, in pixels.
      other_size: longer side of the other images, in pixels.
    """
    return scale * image_size / other_size

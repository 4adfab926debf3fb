"""Position tables: the fixed sine-cosine table of MAE, and its interpolation to images of another size."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Grid(NamedTuple):
    """An image's grid of patches: rows, columns, and the distance of neighbours in the position tables."""

    rows: int
    columns: int
    scale: float = 1.0

    @property
    def num_patches(self) -> int:
        """L, the number of patches."""
        return self.rows * self.columns

    def positions(self, width: int) -> Float[np.ndarray, "patches width"]:
        """Returns the position table of this grid, see `sincos_positions`."""
        return sincos_positions(width, (self.rows, self.columns), self.scale)


def sincos_positions(width: int, grid: tuple[int, int], scale: float = 1.0) -> Float[np.ndarray, "patches width"]:
    """Computes MAE's fixed two-dimensional sine-cosine position table, without the row for cls (which is zero).

    The first half of the channels encodes the column, the second the row; each half consists of sines, then cosines,
    at frequencies 10000^(-i / (width / 4)).

    Args:
      width: number of channels.
      grid: number of patches in (height, width).
      scale: distance of neighbouring patches. At 0.5, a grid of 28 x 28 spans the positions of a grid of 14 x 14
        evenly. This interpolates the coarser table exactly, since the formula also holds between its entries.

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
    """Returns the position scale by which images of another size span the positions of the training size.

    Args:
      scale: position scale at `image_size`.
      image_size: image size of training, in pixels.
      other_size: longer side of the other images, in pixels.
    """
    return scale * image_size / other_size

"""MAE's position tables for one grid, resized to another by bicubic interpolation, as PyTorch programs do."""

import math

import numpy as np
from jaxtyping import Float

from rmae_jax.model.positions import sincos_positions

LARGEST = 64  # side of the original grid, in patches
Weights = Float[np.ndarray, "resized original"]


def resized_from(table: Float[np.ndarray, "1 patches_and_cls width"]) -> int | None:
    """Returns the side of the grid whose MAE table, resized, equals a table; None if there is none.

    Tried are torch.nn.functional.interpolate with mode="bicubic" and align_corners=False, as in MAE's code, and also
    with antialias=True, as in timm. The row of cls must be zero.
    """
    if table[0, 0].any():
        return None
    side, width = math.isqrt(table.shape[1] - 1), table.shape[2]
    patches = table[0, 1:].astype(np.float32).reshape(side, side, width)
    tolerance = 1e-3 if table.dtype in (np.float32, np.float64) else 1e-2
    for original in (*range(2, side), *range(side + 1, LARGEST + 1)):
        grid = sincos_positions(width, (original, original), 1.0).reshape(original, original, width)
        for antialias in (False, True):
            weights = bicubic_weights(original, side, antialias)
            # The first half of the channels depends on the column alone, the second on the row.
            along = weights @ grid[0, :, : width // 2]
            down = weights @ grid[:, 0, width // 2 :]
            resized = np.concatenate([np.tile(along, (side, 1, 1)), np.tile(down[:, None], (1, side, 1))], axis=2)
            if np.allclose(resized, patches, rtol=0, atol=tolerance):
                return original
    return None


def bicubic_weights(original: int, resized: int, antialias: bool) -> Weights:
    """Returns PyTorch's weights of the original positions for each resized one.

    The cubic convolution (Keys 1981) has a = -0.75 and clamps positions to the border; with `antialias`, it has
    a = -0.5, is widened when the size shrinks, and is cut off at the border.
    """
    scale = original / resized
    a, stretch = (-0.5, max(scale, 1.0)) if antialias else (-0.75, 1.0)
    weights = np.zeros((resized, original), np.float32)
    for row in range(resized):
        centre = (row + 0.5) * scale - 0.5
        for position in range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1):
            weight = _cubic(abs(position - centre) / stretch, a)
            if not antialias:
                weights[row, min(max(position, 0), original - 1)] += weight
            elif 0 <= position < original:
                weights[row, position] += weight
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(x: float, a: float) -> float:
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0

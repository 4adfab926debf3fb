"""Crop, nearest-neighbour resize and flip of label maps."""

from typing import no_type_check

import numpy as np
from jaxtyping import UInt16

from data_prep.numba_cache import njit
from rmae_jax.data.crops import Crop


def resize_nearest(
    layers: UInt16[np.ndarray, "layers map_height map_width"], crop: Crop, height: int, width: int
) -> UInt16[np.ndarray, "layers height width"]:
    """Crops each layer, resizes it to (height, width) and flips it if `crop.flip`.

    Output pixel i reads input pixel floor(float32(i) * float32(in / out)), as in PyTorch's
    `interpolate(mode="nearest")`, by which the method resizes region maps.

    Raises:
      ValueError: the crop is empty or reaches beyond the maps.
    """
    crop.check(*layers.shape[1:])
    rows = crop.top + _source_pixels(crop.height, height)
    columns = crop.left + _source_pixels(crop.width, width)
    out = np.empty((len(layers), height, width), np.uint16)
    _gather(layers, rows, columns[::-1].copy() if crop.flip else columns, out)
    return out


def _source_pixels(size: int, out_size: int) -> np.ndarray:
    """Returns the input pixel of each output pixel; unsigned, so that Numba does not check for negative indices."""
    pixels = np.floor(np.arange(out_size, dtype=np.float32) * np.float32(size / out_size))
    return np.minimum(pixels.astype(np.uintp), np.uintp(size - 1))


# no_type_check: Numba cannot compile through the wrapper of a run-time type checker.
@njit()
@no_type_check
def _gather(layers, rows, columns, out):
    for layer in range(out.shape[0]):
        for y in range(out.shape[1]):
            source, target = layers[layer, rows[y]], out[layer, y]
            for x in range(out.shape[2]):
                target[x] = source[columns[x]]

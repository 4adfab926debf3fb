"""Sampling of an image's K regions, and the bitmask in which they are sent to the device."""

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt16

from data_prep.numba_cache import njit

MAX_REGIONS = 32


def bitmask_dtype(num_regions: int) -> np.dtype:
    """Returns the smallest unsigned integer type with a bit for each of K regions.

    Raises:
      ValueError: K is below 1 or above 32.
    """
    if not 1 <= num_regions <= MAX_REGIONS:
        raise ValueError(f"num_regions is {num_regions}; a bitmask holds between 1 and {MAX_REGIONS} regions")
    return np.dtype(np.uint8 if num_regions <= 8 else np.uint16 if num_regions <= 16 else np.uint32)


def sample_regions(
    rng: np.random.Generator,
    layers: UInt16[np.ndarray, "layers height width"],
    num_regions: int,
    allowed: Bool[np.ndarray, "layers labels"] | None = None,
) -> Shaped[np.ndarray, "height width"]:
    """Draws K regions from all that are present in the label maps (R-MAE, section 3).

    The labels of all layers form one pool, unweighted. From K or more candidates, K are drawn without replacement.
    Fewer are repeated as often as needed, shuffled and cut to K, so that each appears nearly equally often. Without
    candidates, no pixel belongs to a region.

    Args:
      rng: the generator of the draw.
      layers: label maps as the model will see them, after crop, resize and flip; 0 = no region.
      num_regions: K.
      allowed: the labels that are candidates, see `RegionFilter.allowed`; by default all that are present.

    Returns:
      One bitmask per pixel: bit k is set if the pixel belongs to the k-th drawn region.
    """
    dtype = bitmask_dtype(num_regions)
    layers = np.ascontiguousarray(layers)
    if allowed is None:
        allowed = _present(layers)
    candidates = np.argwhere(allowed)
    bits = np.zeros(allowed.shape, dtype)
    drawn = candidates[draw(rng, len(candidates), num_regions)]
    np.bitwise_or.at(bits, tuple(drawn.T), dtype.type(1) << np.arange(len(drawn), dtype=dtype))
    out = np.zeros(layers.shape[1:], dtype)
    if len(drawn):
        _look_up(layers, bits, out)
    return out


def draw(rng: np.random.Generator, num_candidates: int, num_regions: int) -> Int[np.ndarray, "drawn"]:
    """Draws the indices of K candidates; none if there are no candidates."""
    if num_candidates == 0:
        return np.empty(0, np.intp)
    if num_candidates >= num_regions:
        return rng.choice(num_candidates, num_regions, replace=False)
    repeats = -(-num_regions // num_candidates)
    return rng.permutation(np.tile(np.arange(num_candidates), repeats))[:num_regions]


# no_type_check: Numba cannot compile through the wrapper of a run-time type checker.
@njit()
@no_type_check
def _present(layers):
    """Returns whether each label occurs, (layers, largest label + 1); False for label 0."""
    present = np.zeros((layers.shape[0], int(layers.max()) + 1 if layers.size else 1), np.bool_)
    for layer in range(layers.shape[0]):
        for label in layers[layer].flat:
            present[layer, label] = True
    present[:, 0] = False
    return present


@njit()
@no_type_check
def _look_up(layers, bits, out):
    """ORs the bits of every layer's label at a pixel into that pixel's bitmask."""
    pixels = out.reshape(-1)
    for layer in range(layers.shape[0]):
        labels, table = layers[layer].reshape(-1), bits[layer]
        for i in range(pixels.shape[0]):
            pixels[i] |= table[labels[i]]

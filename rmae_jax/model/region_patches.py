"""Patches of region maps, which may be given as a bitmask."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from rmae_jax.model.masks import take
from rmae_jax.model.patches import patchify

Regions = Float[Array, "batch regions height width"] | UInt[Array, "batch height width"]  # maps, or their bitmask


class RegionPatches:
    """The K maps of each image, cut into patches. Only the patches that `take` selects of a bitmask are unpacked.

    Args:
      regions: maps of 0 and 1, or their bitmask.
      patch_size: P, the side of a patch in pixels.
      num_regions: K, the number of maps in a bitmask.
    """

    def __init__(self, regions: Regions, patch_size: int, num_regions: int):
        self._patches, self._num_regions = patchify(regions[..., None], patch_size), num_regions

    def take(self, ids: Int[Array, "batch some"]) -> Float[Array, "batch regions some pixels"]:
        """Returns patches `ids[b]` of every map of image b, (B, K, n, P * P)."""
        if self._patches.ndim == 3:
            return unpack_regions(take(self._patches, ids), self._num_regions)
        return jnp.take_along_axis(self._patches, ids[:, None, :, None], axis=2)


def unpack_regions(bits: UInt[Array, "batch *pixels"], num_regions: int) -> Float[Array, "batch {num_regions} *pixels"]:
    """Unpacks one bitmask per pixel (bit k = region k) to K float32 maps of 0 and 1."""
    shifts = jnp.arange(num_regions, dtype=bits.dtype).reshape(-1, *[1] * (bits.ndim - 1))
    return ((bits[:, None] >> shifts) & 1).astype(jnp.float32)

"""The region encoder: from the visible patches of region maps to tokens (R-MAE section 3)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Blocks
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import Mask, fill_holes
from rmae_jax.model.positions import Grid
from rmae_jax.model.remat import PLAIN, Execution


class RegionFeatures(NamedTuple):
    """The region encoder's output for the visible patches of N = B * K / C sets of C maps each.

    Attributes:
      tokens: (N, V, region_width), in the order of the regions' mask.
      mean: (N, region_width), the mean of the tokens; if only the mean is used, the compiled program costs less.
    """

    tokens: Float[Array, "sets visible width"]
    mean: Float[Array, "sets width"]


class RegionEncoder(nnx.Module):
    """A small ViT over the visible patches of region maps.

    Args:
      patch_size: P, the side of a patch in pixels.
      channels: C, the number of maps encoded together as channels: 1 for each map alone, K for all of an image.
      width: the width of the tokens.
      depth: the number of blocks.
      num_heads: the number of attention heads.
    """

    def __init__(
        self,
        patch_size: int,
        channels: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        execution: Execution = PLAIN,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.channels = channels
        self.width = width
        self.patch_embed = Linear(channels * patch_size**2, width, dtype=dtype, rngs=rngs)
        self.blocks = Blocks(width, depth, num_heads, execution=execution, dtype=dtype, rngs=rngs)

    def __call__(self, patches: Float[Array, "batch regions visible pixels"], mask: Mask, grid: Grid) -> RegionFeatures:
        """Encodes the visible patches of each map, which are in the order of `mask`.

        Raises:
          ValueError: the number of maps is not a multiple of C.
        """
        batch, regions, visible, pixels = patches.shape
        if regions % self.channels:
            raise ValueError(f"this model needs a multiple of {self.channels} regions per image, not {regions}")
        together = (patches - 0.5).reshape(batch, -1, self.channels, visible, pixels).swapaxes(2, 3)
        x = self.patch_embed(together.reshape(batch, -1, visible, self.channels * pixels))  # (B, K / C, V, D)
        positions = jnp.asarray(grid.positions(self.width))[mask.visible_ids]
        x = x + positions[:, None].astype(x.dtype)
        return RegionFeatures(*self.blocks.with_mean(x.reshape(-1, visible, self.width)))


class RegionFeed(nnx.Module):
    """Features of the regions for the pixel decoder: their visible tokens, averaged over the regions of an image.

    The mean does not depend on the regions' order. Patches that are masked in the region maps get zeros.
    """

    def __init__(self, in_width: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = LayerNorm(in_width, dtype=dtype, rngs=rngs)
        self.proj = Linear(in_width, width, dtype=dtype, rngs=rngs)

    def __call__(self, features: RegionFeatures, mask: Mask) -> Float[Array, "batch patches width"]:
        """Returns (B, L, width), in the order of the regions' mask."""
        batch, num_patches = mask.permutation.shape
        tokens = features.tokens.reshape(batch, -1, *features.tokens.shape[1:])
        features_at_patches = self.proj(self.norm(tokens.mean(axis=1)))
        return fill_holes(features_at_patches, jnp.zeros((1, 1, features_at_patches.shape[2])), num_patches)

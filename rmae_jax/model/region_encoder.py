"""The region encoder: what is visible of region maps, as tokens (R-MAE section 3)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Blocks
from rmae_jax.model.execution import PLAIN, Execution
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import Mask, fill_holes
from rmae_jax.model.positions import Grid


class RegionFeatures(NamedTuple):
    """What the encoder makes of the visible patches; N = B * K / C sets of C maps each.

    Attributes:
      tokens: (N, V, region_width), in the order of the regions' mask.
      mean: (N, region_width), their mean; compiled, costs less than the tokens where those are not used.
    """

    tokens: Float[Array, "sets visible width"]
    mean: Float[Array, "sets width"]


class RegionEncoder(nnx.Module):
    """A small ViT over the visible patches of region maps.

    Args:
      patch_size: P.
      channels: C, the maps that are read together as the channels of one: 1 reads each map alone, K all of an image.
      width: of the tokens.
      depth: number of blocks.
      num_heads: of the attention.
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
        """Encodes the patches that `mask` leaves visible of each map, in its order.

        Raises:
          ValueError: the number of maps is not a multiple of those read together.
        """
        batch, regions, visible, pixels = patches.shape
        if regions % self.channels:
            raise ValueError(f"this model reads {self.channels} regions of an image at once, not {regions}")
        together = (patches - 0.5).reshape(batch, -1, self.channels, visible, pixels).swapaxes(2, 3)
        x = self.patch_embed(together.reshape(batch, -1, visible, self.channels * pixels))  # (B, K / C, V, D)
        positions = jnp.asarray(grid.positions(self.width))[mask.visible_ids]
        x = x + positions[:, None].astype(x.dtype)
        return RegionFeatures(*self.blocks.with_mean(x.reshape(-1, visible, self.width)))


class RegionFeed(nnx.Module):
    """What the pixel decoder is told of the regions: their visible tokens, averaged over the regions of an image.

    The mean does not depend on the regions' order. Patches of which no region is visible get nothing.
    """

    def __init__(self, in_width: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = LayerNorm(in_width, dtype=dtype, rngs=rngs)
        self.proj = Linear(in_width, width, dtype=dtype, rngs=rngs)

    def __call__(self, features: RegionFeatures, mask: Mask) -> Float[Array, "batch patches width"]:
        """Returns (B, L, width), in the order of the regions' mask."""
        batch, num_patches = mask.permutation.shape
        tokens = features.tokens.reshape(batch, -1, *features.tokens.shape[1:])
        told = self.proj(self.norm(tokens.mean(axis=1)))
        return fill_holes(told, jnp.zeros((1, 1, told.shape[2])), num_patches)

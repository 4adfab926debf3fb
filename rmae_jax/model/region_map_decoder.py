"""The region decoder of variants "batch" and "channel": dense maps, decoded like images (R-MAE v1, section 3).

Both variants use one decoder, which differs in the number of channels C: "batch" decodes each of an image's K maps
separately (C = 1, as R-CNN processes each region), "channel" decodes all K as the channels of one map (C = K). With
K = 1 they are the same.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Blocks
from rmae_jax.model.encoder import token_init
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import fill_holes
from rmae_jax.model.region_encoder import RegionFeatures
from rmae_jax.model.remat import PLAIN, Execution


class MapDecoder(nnx.Module):
    """A ViT over all patches of C region maps, which predicts them from their visible tokens and the pixels' memory.

    Its input x[n, l] is the region token of patch l, or the mask token, plus memory[l]. Then follow blocks, LayerNorm,
    and a linear layer to C * P * P.
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
        self.mask_token = nnx.Param(token_init(rngs.params(), (1, 1, width), jnp.float32))
        self.blocks = Blocks(width, depth, num_heads, execution=execution, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.head = Linear(width, channels * patch_size**2, dtype=dtype, rngs=rngs)

    def first_memory_token(self, first_token: int) -> int:
        """Returns the first memory token that the decoder reads: the first patch's; 0 would be cls."""
        return 1

    def __call__(
        self, features: RegionFeatures, memory: Float[Array, "batch patches width"], first_token: int
    ) -> tuple[Float[Array, "batch regions positions pixels"], None]:
        """Predicts the maps; the second result is None, since there are no queries.

        Args:
          features: the region encoder's features of each set of C maps.
          memory: tokens of every patch, in the order of the regions' mask.
          first_token: the token of the first patch to predict; 0 is cls.
        """
        batch, num_patches, width = memory.shape
        maps = fill_holes(features.tokens, self.mask_token[...], num_patches)  # (B * K / C, L, D)
        maps = maps.reshape(batch, -1, num_patches, width) + memory[:, None]
        x = self.blocks(maps.reshape(-1, num_patches, width), first_query=first_token - 1)
        pred = self.head(self.norm(x))  # (B * K / C, positions, C * P * P)
        pred = pred.reshape(batch, -1, pred.shape[1], self.channels, pred.shape[2] // self.channels)
        pred = pred.swapaxes(2, 3)  # (B, K / C, C, positions, P * P)
        return pred.reshape(batch, -1, *pred.shape[3:]), None

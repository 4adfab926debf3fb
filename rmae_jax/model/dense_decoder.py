"""The pixel decoder's body, which is also the region neck: from visible tokens to a token for every patch."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Blocks
from rmae_jax.model.encoder import token_init
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import Mask, fill_holes, reorder
from rmae_jax.model.positions import Grid
from rmae_jax.model.remat import PLAIN, Execution


class DenseDecoder(nnx.Module):
    """A ViT over all patches: linear layer to the decoder's width, mask tokens, positions, blocks, LayerNorm.

    Tokens are in the order of a mask (cls first), not in the image's order. The result does not depend on the order,
    and visible and masked patches are slices of the sequence instead of gathers.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        execution: Execution = PLAIN,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.width = width
        self.embed = Linear(in_width, width, dtype=dtype, rngs=rngs)
        self.mask_token = nnx.Param(token_init(rngs.params(), (1, 1, width), jnp.float32))
        self.blocks = Blocks(width, depth, num_heads, execution=execution, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        latent: Float[Array, "batch visible_and_cls features"],
        mask: Mask,
        grid: Grid,
        *,
        order: Mask,
        first_token: int,
        hints: Float[Array, "batch patches width"] | None = None,
    ) -> Float[Array, "batch tokens width"]:
        """Computes a token for each patch, visible or masked.

        Args:
          latent: the encoder's output, cls first, then the visible patches of `mask`.
          mask: the mask that the encoder used.
          grid: the image's grid of patches.
          order: the mask in whose order the patches of the result are.
          first_token: the first token of the result; 0 is cls, 1 the first patch. Tokens before it are not computed.
          hints: features to add to the patches, in the result's order.
        """
        x = self.embed(latent)
        patches = fill_holes(x[:, 1:], self.mask_token[...], grid.num_patches)
        patches = reorder(patches, mask, order)
        patches = patches + jnp.asarray(grid.positions(self.width))[order.permutation].astype(x.dtype)
        if hints is not None:
            patches = patches + hints
        tokens = jnp.concatenate([x[:, :1], patches], axis=1)
        return self.norm(self.blocks(tokens, first_query=first_token))

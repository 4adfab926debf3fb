"""The pixel branch's encoder, the ViT that downstream tasks use (MAE section 3)."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Block, run_stack, stack
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import Mask, take
from rmae_jax.model.patches import patchify
from rmae_jax.model.positions import Grid
from rmae_jax.model.remat import PLAIN, Execution

token_init = nnx.initializers.normal(0.02)


class PixelEncoder(nnx.Module):
    """A ViT over the visible patches (MAE section 3)."""

    def __init__(
        self,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        position_scale: float,
        execution: Execution = PLAIN,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.patch_size = patch_size
        self.position_scale = position_scale
        self.width = width
        self.patch_embed = Linear(3 * patch_size**2, width, dtype=dtype, rngs=rngs)
        self.cls_token = nnx.Param(token_init(rngs.params(), (1, 1, width), jnp.float32))
        self.blocks = stack(partial(Block, width, num_heads, dtype=dtype), depth, execution, rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width 3"], mask: Mask | None = None
    ) -> Float[Array, "batch tokens features"]:
        """Encodes the visible patches, or all patches if there is no mask.

        Returns:
          (B, 1 + V, D): the cls token, then the visible patches in the mask's order.
        """
        return self.norm(run_stack(self.blocks, self.embed(images, mask)))

    def embed(
        self, images: Float[Array, "batch height width 3"], mask: Mask | None = None
    ) -> Float[Array, "batch tokens features"]:
        """Computes the input of the first block: cls, then patch embeddings plus positions, in the same order."""
        patches = patchify(images, self.patch_size)
        positions = jnp.asarray(self.grid(images).positions(self.width))[None]
        if mask is not None:  # selected before the embedding, so that masked patches are not embedded
            patches = take(patches, mask.visible_ids)
            positions = positions[0][mask.visible_ids]
        x = self.patch_embed(patches)
        x = x + positions.astype(x.dtype)
        cls = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (x.shape[0], 1, self.width))
        return jnp.concatenate([cls, x], axis=1)

    def grid(self, images: Float[Array, "batch height width 3"]) -> Grid:
        """Returns the grid of patches of images of this size."""
        return Grid(images.shape[1] // self.patch_size, images.shape[2] // self.patch_size, self.position_scale)

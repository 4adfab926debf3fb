"""The pixel branch's encoder, the ViT that users keep, and its targets (MAE section 3)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Block, run_stack, stack
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.masks import Mask, take
from rmae_jax.model.patches import Grid, patchify

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
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.patch_size = patch_size
        self.position_scale = position_scale
        self.width = width
        self.patch_embed = Linear(3 * patch_size**2, width, dtype=dtype, rngs=rngs)
        self.cls_token = nnx.Param(token_init(rngs.params(), (1, 1, width)))
        self.blocks = stack(lambda rngs: Block(width, num_heads, dtype=dtype, rngs=rngs), depth, rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width 3"], mask: Mask | None = None
    ) -> Float[Array, "batch tokens features"]:
        """Encodes the visible patches, or all of them without a mask.

        Returns:
          (B, 1 + V, D): the cls token, then the visible patches in the mask's order.
        """
        return self.norm(run_stack(self.blocks, self.embed(images, mask)))

    def embed(
        self, images: Float[Array, "batch height width 3"], mask: Mask | None = None
    ) -> Float[Array, "batch tokens features"]:
        """What the blocks read, for the same tokens."""
        patches = patchify(images, self.patch_size)
        positions = jnp.asarray(self.grid(images).positions(self.width))[None]
        if mask is not None:  # before the embedding, so that only visible patches are embedded
            patches = take(patches, mask.visible_ids)
            positions = positions[0][mask.visible_ids]
        x = self.patch_embed(patches)
        x = x + positions.astype(x.dtype)
        cls = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (x.shape[0], 1, self.width))
        return jnp.concatenate([cls, x], axis=1)

    def grid(self, images: Float[Array, "batch height width 3"]) -> Grid:
        """The patches that images of this size are cut into."""
        return Grid(images.shape[1] // self.patch_size, images.shape[2] // self.patch_size, self.position_scale)


def pixel_targets(
    patches: Float[Array, "batch patches pixels"], norm_pix_loss: bool
) -> Float[Array, "batch patches pixels"]:
    """What the pixel decoder is to predict: each patch's pixels, with norm_pix_loss normalised by their own mean and
    unbiased variance (MAE section 4, "reconstruction target")."""
    if not norm_pix_loss:
        return patches
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return (patches - mean) / jnp.sqrt(variance + 1e-6)

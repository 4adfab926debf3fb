"""The pixel branch: the ViT encoder that users keep, and the decoder that pre-training throws away (MAE)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Block, LayerNorm, Linear, run_stack, stack
from rmae_jax.model.masks import Mask, fill_holes, take
from rmae_jax.model.patches import patchify, sincos_positions

token_init = nnx.initializers.normal(0.02)


class PixelEncoder(nnx.Module):
    """A ViT over the visible patches (MAE section 3)."""

    def __init__(self, patch_size: int, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.patch_size = patch_size
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
        grid = images.shape[1] // self.patch_size, images.shape[2] // self.patch_size
        patches = patchify(images, self.patch_size)
        positions = jnp.asarray(sincos_positions(self.width, grid))[None]
        if mask is not None:  # before the embedding, so that only visible patches are embedded
            patches = take(patches, mask.visible_ids)
            positions = positions[0][mask.visible_ids]
        x = self.patch_embed(patches)
        x = x + positions.astype(x.dtype)
        cls = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (x.shape[0], 1, self.width))
        x = run_stack(self.blocks, jnp.concatenate([cls, x], axis=1))
        return self.norm(x)


class DenseDecoder(nnx.Module):
    """From the encoder's visible tokens to a token for every patch: the pixel decoder's body and the region neck.

    A linear layer to the decoder's width, mask tokens in the holes, sine-cosine positions (zero for cls), blocks
    and a LayerNorm.
    """

    def __init__(self, in_width: int, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.width = width
        self.embed = Linear(in_width, width, dtype=dtype, rngs=rngs)
        self.mask_token = nnx.Param(token_init(rngs.params(), (1, 1, width)))
        self.blocks = stack(lambda rngs: Block(width, num_heads, dtype=dtype, rngs=rngs), depth, rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self, latent: Float[Array, "batch visible_and_cls features"], mask: Mask, grid: tuple[int, int]
    ) -> Float[Array, "batch patches_and_cls width"]:
        """Returns (B, 1 + L, width): the cls token, then every patch in the image's order."""
        x = self.embed(latent)
        patches = fill_holes(x[:, 1:], self.mask_token[...], mask)
        patches = patches + jnp.asarray(sincos_positions(self.width, grid)).astype(x.dtype)
        x = run_stack(self.blocks, jnp.concatenate([x[:, :1], patches], axis=1))
        return self.norm(x)


def pixel_targets(
    images: Float[Array, "batch height width 3"], patch_size: int, norm_pix_loss: bool
) -> Float[Array, "batch patches pixels"]:
    """What the pixel decoder is to predict: each patch's pixels, with norm_pix_loss normalised by their own mean and
    unbiased variance (MAE section 4, "reconstruction target")."""
    patches = patchify(images, patch_size)
    if not norm_pix_loss:
        return patches
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return (patches - mean) / jnp.sqrt(variance + 1e-6)

"""The model: patches and masks, ViT blocks, the pixel branch, the region branch, and `RMAE`, which combines them."""

from rmae_jax.model.image_normalization import denormalize, normalize
from rmae_jax.model.losses import region_probability
from rmae_jax.model.masks import Mask, draw_masks
from rmae_jax.model.region_patches import unpack_regions
from rmae_jax.model.rmae import BLOCKS, RMAE, Outputs, Reconstruction

__all__ = [
    "BLOCKS",
    "RMAE",
    "Mask",
    "Outputs",
    "Reconstruction",
    "denormalize",
    "draw_masks",
    "normalize",
    "region_probability",
    "unpack_regions",
]

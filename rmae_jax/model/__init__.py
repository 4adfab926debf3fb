"""The method: patches and masks, ViT blocks, the pixel branch, the region branch, and their sum."""

from rmae_jax.model.inputs import denormalize, normalize, unpack_regions
from rmae_jax.model.masks import Mask
from rmae_jax.model.rmae import RMAE, Outputs, Reconstruction

__all__ = ["RMAE", "Mask", "Outputs", "Reconstruction", "denormalize", "normalize", "unpack_regions"]

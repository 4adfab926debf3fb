"""Normalisation of uint8 images by ImageNet's statistics; done on the device, so that the host sends bytes."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images: UInt8[Array, "batch height width 3"]) -> Float[Array, "batch height width 3"]:
    """Converts uint8 RGB to float32, normalised by the mean and standard deviation of ImageNet's pixels."""
    return (images.astype(jnp.float32) / 255 - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def denormalize(images: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Inverts `normalize`; returns RGB clipped to 0..1."""
    return jnp.clip(images * jnp.array(IMAGENET_STD) + jnp.array(IMAGENET_MEAN), 0, 1)

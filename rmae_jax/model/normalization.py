"""What the host sends, turned into what the model takes, on the device: a byte each instead of floats travels."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images: UInt8[Array, "batch height width 3"]) -> Float[Array, "batch height width 3"]:
    """uint8 RGB -> float32, by the mean and standard deviation of ImageNet's pixels."""
    return (images.astype(jnp.float32) / 255 - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)


def denormalize(images: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """The inverse of `normalize`, in 0..1."""
    return jnp.clip(images * jnp.array(IMAGENET_STD) + jnp.array(IMAGENET_MEAN), 0, 1)

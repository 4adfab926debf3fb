"""What a trained encoder makes of photographs."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rmae_jax.model import RMAE, normalize
from rmae_jax.model.encoder import PixelEncoder


def features(
    model: RMAE, images: Shaped[Array | np.ndarray, "batch height width 3"]
) -> Float[Array, "batch tokens features"]:
    """Encodes images of which nothing is masked.

    Args:
      model: a trained model.
      images: (B, H, W, 3), uint8 photographs, or float32 already normalised by ImageNet's mean and standard deviation.
        H and W are multiples of the patch size; at another size than the model's, positions are interpolated.

    Returns:
      (B, 1 + L, D): the cls token, then the patches row by row.

    Raises:
      ValueError: the images cannot be cut into patches.
    """
    model = model.at_size(*images.shape[1:3])
    return _encode(model.encoder, as_input(images))


def as_input(images: Shaped[Array | np.ndarray, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """uint8 photographs, normalised; floats are taken to be normalised already."""
    images = jnp.asarray(images)
    return normalize(images) if images.dtype == jnp.uint8 else images


@jax.jit
def _encode(
    encoder: PixelEncoder, images: Float[Array, "batch height width 3"]
) -> Float[Array, "batch tokens features"]:
    return encoder(images)

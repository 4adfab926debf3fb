"""Feature extraction: a trained encoder's tokens of whole images."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rmae_jax.model import RMAE, normalize
from rmae_jax.model.encoder import PixelEncoder


def features(
    model: RMAE, images: Shaped[Array | np.ndarray, "batch height width 3"]
) -> Float[Array, "batch tokens features"]:
    """Encodes images without masking.

    Args:
      model: a trained model.
      images: (B, H, W, 3), uint8 RGB, or float32 already normalised by ImageNet's mean and standard deviation. H and W
        are multiples of the patch size; if the size is not the model's, positions are interpolated.

    Returns:
      (B, 1 + L, D): the cls token, then the patches row by row.

    Raises:
      ValueError: the images' size is not a multiple of the patch size.
    """
    model = model.at_size(*images.shape[1:3])
    return _encode(model.encoder, as_input(images))


def as_input(images: Shaped[Array | np.ndarray, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Normalises uint8 images; returns floats unchanged, which must already be normalised."""
    images = jnp.asarray(images)
    return normalize(images) if images.dtype == jnp.uint8 else images


@jax.jit
def _encode(
    encoder: PixelEncoder, images: Float[Array, "batch height width 3"]
) -> Float[Array, "batch tokens features"]:
    return encoder(images)

"""Features of images, by patch and pooled."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from rmae_jax.feature_extraction import features
from rmae_jax.model import RMAE

PatchFeatures = Float[np.ndarray, "rows columns features"]
FeatureMaps = Sequence[Float[np.ndarray, "_ _ features"]]  # one array per image; images may differ in size


def patch_features(model: RMAE, image: UInt8[np.ndarray, "height width 3"]) -> PatchFeatures:
    """Computes the encoder's features of each patch of an unmasked image, without the cls token.

    Raises:
      ValueError: the image cannot be cut into patches.
    """
    tokens = np.asarray(features(model, image[None])[0, 1:], np.float32)
    return tokens.reshape(image.shape[0] // model.config.patch_size, -1, tokens.shape[-1])


def image_features(patches: FeatureMaps) -> Float[np.ndarray, "images features"]:
    """Returns one vector per image: the mean of its patches' features."""
    return np.stack([one.mean(axis=(0, 1)) for one in patches])


def cosine(
    a: Float[np.ndarray, "*a_items features"], b: Float[np.ndarray, "*b_items features"]
) -> Float[np.ndarray, "*items"]:
    """Returns the cosine similarity of each vector of `a` with each vector of `b`."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (a, b))
    return np.tensordot(a, b, axes=(-1, -1))

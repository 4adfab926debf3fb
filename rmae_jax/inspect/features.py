"""Features of photographs, by patch and as a whole."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from rmae_jax.feature_extraction import features
from rmae_jax.model import RMAE

PatchFeatures = Float[np.ndarray, "rows columns features"]
OfSeveral = Sequence[Float[np.ndarray, "_ _ features"]]  # images, that may differ in size


def patch_features(model: RMAE, image: UInt8[np.ndarray, "height width 3"]) -> PatchFeatures:
    """What the encoder makes of each patch of an image, nothing masked; the cls token is left out.

    Raises:
      ValueError: the image cannot be cut into patches.
    """
    tokens = np.asarray(features(model, image[None])[0, 1:], np.float32)
    return tokens.reshape(image.shape[0] // model.config.patch_size, -1, tokens.shape[-1])


def image_features(patches: OfSeveral) -> Float[np.ndarray, "images features"]:
    """One vector an image: the mean of its patches' features."""
    return np.stack([one.mean(axis=(0, 1)) for one in patches])


def cosine(
    a: Float[np.ndarray, "*a_items features"], b: Float[np.ndarray, "*b_items features"]
) -> Float[np.ndarray, "*items"]:
    """The cosine of the angle between each vector of a and each of b."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (a, b))
    return np.tensordot(a, b, axes=(-1, -1))

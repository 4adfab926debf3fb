"""Mixup and CutMix: each photograph of a batch mixed with another, and their classes likewise."""

import numpy as np
from jaxtyping import Float32

SWITCH = 0.5  # the probability of CutMix


def draw_weights(
    rng: np.random.Generator, size: int, mixup: float, cutmix: float
) -> Float32[np.ndarray, "{size} {size}"]:
    """How much of each pixel a photograph keeps; the rest is its partner's.

    Mixup (Zhang et al. 2018) blends all pixels alike, CutMix (Yun et al. 2019) puts a rectangle of the partner in; a
    coin chooses, as in timm's mode "batch". The mean of the weights is how much the photograph's own class counts.

    Args:
      rng: of this step.
      size: of the images, in pixels.
      mixup: alpha, of Beta(alpha, alpha); 0 for never.
      cutmix: the same of CutMix.
    """
    weights = np.ones((size, size), np.float32)
    if not mixup and not cutmix:
        return weights
    if cutmix and (not mixup or rng.random() < SWITCH):
        side = size * np.sqrt(1 - rng.beta(cutmix, cutmix))
        center = rng.integers(size, size=2)
        (top, left), (bottom, right) = (np.clip(center + sign * int(side) // 2, 0, size) for sign in (-1, 1))
        weights[top:bottom, left:right] = 0
    else:
        weights[:] = rng.beta(mixup, mixup)
    return weights

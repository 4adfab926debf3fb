"""Weights of mixup and CutMix, which mix each image of a batch with another one, and their classes likewise."""

import numpy as np
from jaxtyping import Float32

SWITCH = 0.5  # the probability of CutMix


def draw_weights(
    rng: np.random.Generator, size: int, mixup: float, cutmix: float
) -> Float32[np.ndarray, "{size} {size}"]:
    """Draws the weight of an image at each of its pixels; the remaining weight is its partner's.

    Mixup (Zhang et al. 2018) blends all pixels equally; CutMix (Yun et al. 2019) pastes a rectangle of the partner. A
    coin toss selects one, as in timm's mode "batch". The mean of the weights is the weight of the image's own class.

    Args:
      rng: the step's random generator.
      size: the images' side, in pixels.
      mixup: alpha of mixup's Beta(alpha, alpha); 0 disables mixup.
      cutmix: alpha of CutMix's Beta(alpha, alpha); 0 disables CutMix.
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

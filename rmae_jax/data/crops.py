"""Crops: the random resized crop of the pre-training recipe, and the whole image."""

import math
from typing import NamedTuple

import numpy as np

SCALE = (0.2, 1.0)  # range of a crop's area, relative to the image's
ASPECT = (3 / 4, 4 / 3)  # range of a crop's width / height


class Crop(NamedTuple):
    """A rectangle of an image, in pixels, and whether to mirror it left to right after resizing."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False

    def check(self, height: int, width: int) -> None:
        """Raises ValueError if the crop is empty or reaches beyond an image of this size."""
        inside = 0 <= self.top <= height - self.height and 0 <= self.left <= width - self.width
        if not (inside and self.height > 0 and self.width > 0):
            raise ValueError(f"{self} is empty or does not fit in an image of {height} x {width} pixels")


def random_resized_crop(rng: np.random.Generator, height: int, width: int) -> Crop:
    """Draws a crop covering 20-100 % of the area with aspect 3/4-4/3, and a flip with probability 1/2.

    The algorithm is that of torchvision's RandomResizedCrop: the area is uniform, the aspect log-uniform. If ten
    attempts do not fit in the image, the crop is the largest centred one whose aspect is in range.
    """
    log_aspect = (math.log(ASPECT[0]), math.log(ASPECT[1]))
    for _ in range(10):
        area = height * width * rng.uniform(*SCALE)
        aspect = math.exp(rng.uniform(*log_aspect))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            break
    else:
        crop_width = min(width, max(1, round(height * ASPECT[1])))
        crop_height = min(height, max(1, round(width / ASPECT[0])))
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return Crop(top, left, crop_height, crop_width, flip=bool(rng.random() < 0.5))


def whole_image(height: int, width: int) -> Crop:
    """Returns the crop that covers the whole image."""
    return Crop(0, 0, height, width)

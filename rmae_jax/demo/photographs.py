"""Photographs as the model gets them, with the regions that it might have been trained on."""

import dataclasses
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep import felzenszwalb, images
from data_prep.shipped_photographs import PHOTOGRAPHS
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import Crop, whole
from rmae_jax.data.nearest import resize_nearest

NAMES = {Path(file).stem.replace("_", " "): file for file in PHOTOGRAPHS}
SCALES = (500, 1000, 1500)
LONGEST_SIDE = 640  # COCO's: there the scales mean what they mean in training, and the regions are found at once
MAX_PIXELS = 50_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Photograph:
    """The central square of a photograph at the model's size.

    Attributes:
      image: RGB.
      layers: labels of the Felzenszwalb-Huttenlocher regions at each of SCALES, found before cropping and resizing.
    """

    image: UInt8[np.ndarray, "size size 3"]
    layers: UInt16[np.ndarray, "scales size size"]


@lru_cache(maxsize=len(NAMES))
def shipped(name: str, size: int) -> Photograph:
    """One of the photographs that scikit-image carries, by its name in NAMES."""
    return read((resources.files("skimage.data") / NAMES[name]).read_bytes(), size)


def read(data: bytes, size: int) -> Photograph:
    """Reads an image file, as `data_prep.images.load` does.

    Args:
      data: content of the file.
      size: of the result, in pixels.

    Raises:
      BadImage: the bytes are no image, are damaged, or the image has more than MAX_PIXELS pixels.
    """
    _, pixels = images.load(data, MAX_PIXELS)
    height, width = pixels.shape[:2]
    shrink = LONGEST_SIDE / max(height, width)
    if shrink < 1:
        small = max(1, round(height * shrink)), max(1, round(width * shrink))
        pixels = resize_bicubic(pixels, whole(height, width), *small)
        height, width = small
    side = min(height, width)
    center = Crop((height - side) // 2, (width - side) // 2, side, side)
    layers = felzenszwalb.layers(pixels, SCALES)
    return Photograph(resize_bicubic(pixels, center, size, size), resize_nearest(layers, center, size, size))

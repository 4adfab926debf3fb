"""Photographs as a model reads them: resized, cropped to whole patches, with Felzenszwalb-Huttenlocher regions."""

import dataclasses

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep import felzenszwalb
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import whole
from rmae_jax.data.nearest import resize_nearest

MAX_PATCHES = 4096  # of a photograph; the memory of attention grows with their square
LONGEST_ASPECT = 2  # of a photograph; most patches of a longer one would be far from each other
REGIONS_AT = 640  # pixels of the longer side: the size of COCO's images, for which the scales were chosen


@dataclasses.dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph at the size at which a model reads it.

    Attributes:
      name: of the file.
      image: uint8 RGB, both sides multiples of the patch size.
      layers: its Felzenszwalb-Huttenlocher regions at three scales, labels from 1.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    layers: UInt16[np.ndarray, "scales height width"]


def view(
    name: str,
    pixels: UInt8[np.ndarray, "height width 3"],
    image_size: int,
    patch_size: int,
    longest_aspect: float = LONGEST_ASPECT,
) -> Photograph:
    """Resizes the shorter side of a photograph to `image_size`, and crops its middle to whole patches.

    Regions are computed on the photograph reduced to 640 pixels (never enlarged), then resized and cropped with it.

    Args:
      name: of the file.
      pixels: uint8 RGB.
      image_size: of the shorter side, in pixels.
      patch_size: of the model.
      longest_aspect: longer side over shorter side, at most; 1 crops a square.

    Raises:
      ValueError: the size does not fit the patches.
    """
    check_size(image_size, patch_size)
    height, width = pixels.shape[:2]
    layers = felzenszwalb.layers(_reduced(pixels))
    scale = image_size / min(height, width)
    resized = max(image_size, round(height * scale)), max(image_size, round(width * scale))
    sides = [int(min(side, longest_aspect * image_size)) // patch_size * patch_size for side in resized]
    starts = [(side - part) // 2 for side, part in zip(resized, sides, strict=True)]
    middle = tuple(slice(start, start + part) for start, part in zip(starts, sides, strict=True))
    image = resize_bicubic(pixels, whole(height, width), *resized)[middle]
    return Photograph(name, image, resize_nearest(layers, whole(*layers.shape[1:]), *resized)[:, *middle])


def check_size(image_size: int, patch_size: int) -> None:
    """Checks that images with this shorter side consist of whole patches, and not of too many.

    Raises:
      ValueError: they do not.
    """
    if image_size < 1 or image_size % patch_size:
        near = max(1, round(image_size / patch_size)) * patch_size
        raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}; {near} is")
    patches = LONGEST_ASPECT * (image_size // patch_size) ** 2
    if patches > MAX_PATCHES:
        raise ValueError(f"image size {image_size} may give {patches} patches; at most {MAX_PATCHES} are possible")


def _reduced(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = pixels.shape[:2]
    scale = REGIONS_AT / max(height, width)
    if scale >= 1:
        return pixels
    return resize_bicubic(pixels, whole(height, width), max(1, round(height * scale)), max(1, round(width * scale)))

"""Preparation of single images for a model: resize, crop to whole patches, Felzenszwalb-Huttenlocher regions."""

import dataclasses

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep import felzenszwalb
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import whole_image
from rmae_jax.data.nearest import resize_nearest

MAX_PATCHES = 4096  # per image; the memory of attention grows with the square of this number
LONGEST_ASPECT = 2  # longer side over shorter side; most patches of a longer image would be far from each other
THINNEST_ASPECT = 16  # the ends of a longer photograph are cut before it is resized, which bounds the memory
REGIONS_AT = 640  # longer side in pixels: the size of COCO's images, for which the FH scales were chosen


@dataclasses.dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph, resized and cropped for a model.

    Attributes:
      name: the file's name.
      image: uint8 RGB, both sides multiples of the patch size.
      layers: label maps of its Felzenszwalb-Huttenlocher regions at three scales, labels from 1.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    layers: UInt16[np.ndarray, "scales height width"]


def view(
    name: str,
    pixels: UInt8[np.ndarray, "height width 3"],
    image_size: int,
    patch_size: int,
    longest_aspect: int = LONGEST_ASPECT,
) -> Photograph:
    """Resizes the shorter side of a photograph to `image_size`, and crops its centre to whole patches.

    Regions are computed on the photograph with its longer side reduced to 640 pixels (never enlarged), then resized and
    cropped like the photograph.

    Args:
      name: the file's name.
      pixels: the photograph, uint8 RGB.
      image_size: the shorter side of the result, in pixels.
      patch_size: the model's patch size, in pixels.
      longest_aspect: maximum of longer side over shorter side; 1 crops a square.

    Raises:
      ValueError: the size is not a multiple of the patch size, or gives too many patches.
    """
    check_size(image_size, patch_size, longest_aspect)
    pixels = _without_ends(pixels)
    height, width = pixels.shape[:2]
    layers = felzenszwalb.layers(_reduced(pixels))
    scale = image_size / min(height, width)
    resized = max(image_size, round(height * scale)), max(image_size, round(width * scale))
    sides = [min(side, longest_aspect * image_size) // patch_size * patch_size for side in resized]
    starts = [(side - part) // 2 for side, part in zip(resized, sides, strict=True)]
    middle = tuple(slice(start, start + part) for start, part in zip(starts, sides, strict=True))
    image = resize_bicubic(pixels, whole_image(height, width), *resized)[middle]
    return Photograph(name, image, resize_nearest(layers, whole_image(*layers.shape[1:]), *resized)[:, *middle])


def check_size(image_size: int, patch_size: int, longest_aspect: int = LONGEST_ASPECT) -> None:
    """Checks that images with this shorter side and longest aspect consist of whole patches, at most `MAX_PATCHES`.

    Raises:
      ValueError: they do not.
    """
    if image_size < 1 or image_size % patch_size:
        near = max(1, round(image_size / patch_size)) * patch_size
        raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}; {near} is")
    patches = longest_aspect * (image_size // patch_size) ** 2
    if patches > MAX_PATCHES:
        raise ValueError(f"image size {image_size} may give {patches} patches; at most {MAX_PATCHES} are allowed")


def _without_ends(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Crops the centre of a photograph whose longer side is more than THINNEST_ASPECT times the shorter one."""
    longest = THINNEST_ASPECT * min(pixels.shape[:2])
    top, left = (max(0, side - longest) // 2 for side in pixels.shape[:2])
    return pixels[top : top + longest, left : left + longest]


def _reduced(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = pixels.shape[:2]
    scale = REGIONS_AT / max(height, width)
    if scale >= 1:
        return pixels
    return resize_bicubic(
        pixels, whole_image(height, width), max(1, round(height * scale)), max(1, round(width * scale))
    )

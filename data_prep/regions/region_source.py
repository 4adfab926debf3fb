"""What a source of regions is: named layers, and for each image the label maps that belong to them."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep import images
from data_prep.dataset.inputs import Input
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

LabelMaps = UInt16[np.ndarray, "maps height width"]


@runtime_checkable
class MapMaker(Protocol):
    """Makes the label maps of one image, in any process; small, and picklable."""

    def __call__(self, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]) -> list[LabelMaps]:
        """Label maps for each of the source's layers: uint16, 0 = no region, regions numbered 1..n in each map, or by
        their class in a layer of the method "semantic".

        Args:
          item: the image.
          data: its file's bytes.
          pixels: what training will decode: upright, the size that the label maps must have.

        Raises:
          BadImage: the image's regions are missing, damaged or do not fit the image.
        """


@runtime_checkable
class RegionSource(Protocol):
    """Where regions come from.

    Attributes:
      layers: metadata of its named layers: each has "name", "method" and whatever decides the bytes.
    """

    layers: tuple[dict[str, Any], ...]

    def inputs(self) -> Iterator[Input]:
        """The files that it reads, in a fixed order."""

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Prepares whatever the workers share, in `scratch`, once for all of them.

        Raises:
          PrepError: an annotation file is missing or damaged.
        """


def fit(
    maps: UInt16[np.ndarray, "maps drawn_height drawn_width"],
    data: bytes,
    pixels: UInt8[np.ndarray, "height width 3"],
    what: str,
) -> LabelMaps:
    """Brings label maps that were drawn on an image file upright, as its pixels are.

    Maps of the size of the upright image are taken as they are. Maps of the size of the pixels that lie in the
    file, before EXIF's orientation is applied, are turned as the image was.

    Args:
      maps: as their source has them.
      data: the image file's bytes.
      pixels: the upright image.
      what: names the maps' file in the message.

    Raises:
      BadImage: the maps are of another size.
    """
    if maps.shape[1:] == pixels.shape[:2]:
        return maps
    turned = images.turn_upright(maps, data)
    if turned.shape[1:] == pixels.shape[:2]:
        return np.ascontiguousarray(turned)
    (height, width), (image_height, image_width) = maps.shape[1:], pixels.shape[:2]
    raise images.BadImage(f"{what} is for an image of {width}x{height}, not {image_width}x{image_height}")

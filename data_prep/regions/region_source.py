"""The interface of a region source: named layers, and for each image the label maps of every layer."""

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
    """A function that returns the label maps of one image, in any process; small and picklable."""

    def __call__(self, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]) -> list[LabelMaps]:
        """Returns the label maps of an image, for each of the source's layers.

        Label maps are uint16; 0 = no region. Regions are numbered 1..n in each map, or by their class in a layer of
        the method "semantic".

        Args:
          item: the image.
          data: the image file's bytes.
          pixels: the upright image that training will decode; the label maps must have its size.

        Raises:
          BadImage: the image's regions are missing or corrupt, or do not fit the image.
        """


@runtime_checkable
class RegionSource(Protocol):
    """A source of the regions of images.

    Attributes:
      layers: the metadata of the named layers: each has "name", "method" and every setting that affects the bytes.
    """

    layers: tuple[dict[str, Any], ...]

    def inputs(self) -> Iterator[Input]:
        """Yields the files that the source reads, in a fixed order."""

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Prepares the data that the workers share, once, in `scratch`, and returns the maker of label maps.

        Raises:
          PrepError: an annotation file is missing or corrupt.
        """

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns lines about the regions that the command prints with its summary; called after `ready`."""


def orient_to_image(
    maps: UInt16[np.ndarray, "maps drawn_height drawn_width"],
    data: bytes,
    pixels: UInt8[np.ndarray, "height width 3"],
    what: str,
) -> LabelMaps:
    """Turns label maps upright if they were drawn on the stored pixels of an image file.

    Maps of the size of the upright image are returned unchanged. Maps of the size of the stored pixels, before EXIF's
    orientation is applied, are turned as the image was.

    Args:
      maps: the label maps, as stored in their source.
      data: the image file's bytes.
      pixels: the upright image.
      what: the name of the maps' file in the message.

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

"""A region source for semantic segmentation, the class of each pixel: a PNG or NPY file for each image."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep.images import BadImage
from data_prep.regions.label_maps import LabelMapFolder, read
from data_prep.regions.region_source import orient_to_image
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

ENDINGS = ("_gtFine_labelIds",)  # of names in Cityscapes


@dataclasses.dataclass(frozen=True)
class Semantic(LabelMapFolder):
    """A layer with the class of each pixel, plus one, so that 0 means that the class is unknown.

    Unlike in other layers, a number means the same in all images, and an image need not have all numbers.

    Attributes:
      folder: the folder that contains a file of each image's name: gray values or palette indices of 8 or 16 bits, or
        an array of whole numbers of these sizes, (height, width). The largest number of the type, 255 or 65535, is not
        a class: by convention it marks pixels whose class is unknown.
      name: the layer's name.
    """

    name: str = "semantic"
    method: ClassVar[str] = "semantic"

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns nothing: 0 is a class."""
        return []

    @staticmethod
    def make(
        maps: AnyPath, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
    ) -> list[UInt16[np.ndarray, "maps height width"]]:
        """Returns the map of one image, see `MapMaker`; `maps` is the folder."""
        values, name = read(maps, item, data, pixels, ENDINGS)
        if values.ndim == 4:
            raise BadImage(f"{name} has colours; a class must be a gray value or a palette index")
        if len(values) != 1:
            raise BadImage(f"{name} has {len(values)} maps instead of one; a pixel has one class")
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        unknown = np.iinfo(np.uint8 if values.dtype.itemsize == 1 else np.uint16).max
        if values.max(initial=0) > unknown:
            raise BadImage(f"{name} has class {values.max()}; classes are at most {unknown - 1}")
        values = values.astype(np.uint16)
        return [orient_to_image(np.where(values == unknown, 0, values + 1).astype(np.uint16), data, pixels, name)]

"""The class of each pixel, as semantic segmentation has it: a PNG or NPY file for each image."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep.images import BadImage
from data_prep.regions.label_maps import LabelMapFolder, read
from data_prep.regions.region_source import fit
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class Semantic(LabelMapFolder):
    """One layer: the class of each pixel, plus one, so that 0 says that it is not known.

    Unlike those of other layers, its numbers mean the same in all images, and an image need not have all of them.

    Attributes:
      folder: holds a file of each image's name: gray values or indices of a palette of 8 or 16 bits, or an array of
        whole numbers of these sizes, (height, width). The largest number of the type, 255 or 65535, is no class: it
        marks pixels whose class is not known, as is usual.
      name: of the layer.
    """

    name: str = "semantic"
    method: ClassVar[str] = "semantic"

    @staticmethod
    def make(
        maps: AnyPath, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
    ) -> list[UInt16[np.ndarray, "maps height width"]]:
        """The map of one image, see `MapMaker`; `maps` is the folder."""
        values, name = read(maps, item, data, pixels)
        if values.ndim == 4:
            raise BadImage(f"{name} has colours; a class is a gray value or an index of a palette")
        if len(values) != 1:
            raise BadImage(f"{name} has {len(values)} maps; a pixel has one class")
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        unknown = np.iinfo(np.uint8 if values.dtype.itemsize == 1 else np.uint16).max
        if values.max(initial=0) > unknown:
            raise BadImage(f"{name} has class {values.max()}; classes are at most {unknown - 1}")
        values = values.astype(np.uint16)
        return [fit(np.where(values == unknown, 0, values + 1).astype(np.uint16), data, pixels, name)]

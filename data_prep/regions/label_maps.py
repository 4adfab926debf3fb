"""Regions from label maps that something else made: a PNG or NPY file for each image."""

import dataclasses
import io
import tokenize
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, Shaped, UInt8, UInt16

from data_prep.dataset.inputs import Input
from data_prep.images import BadImage
from data_prep.regions import label_png, region_files
from data_prep.regions.coco_masks import MAX_SIDE
from data_prep.regions.mask_packing import MAX_REGIONS
from data_prep.regions.region_source import MapMaker, fit
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

SUFFIXES = (".png", ".npy")


@dataclasses.dataclass(frozen=True)
class LabelMapFolder:
    """One layer: the label maps of an image, in which every value except 0 is a region.

    PNG files hold one map: of gray values, of indices into a palette, or of colours, black being 0. NPY files hold
    whole numbers or booleans: (height, width), or (maps, height, width).

    Attributes:
      folder: holds a file of each image's name.
      name: of the layer.
    """

    folder: AnyPath
    name: str = "label_maps"
    method: ClassVar[str] = "label_maps"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """Metadata of the layer."""
        return ({"name": self.name, "method": self.method},)

    def inputs(self) -> Iterator[Input]:
        """The files, in order.

        Raises:
          PrepError: the folder is missing.
        """
        return region_files.inputs(self.folder, SUFFIXES)

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Nothing has to be prepared.

        Raises:
          PrepError: the folder is missing.
        """
        region_files.check(self.folder)
        return partial(self.make, self.folder)

    @staticmethod
    def make(
        maps: AnyPath, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
    ) -> list[UInt16[np.ndarray, "maps height width"]]:
        """The label maps of one image, see `MapMaker`; `maps` is the folder."""
        values, name = read(maps, item, data, pixels)
        if values.shape[-1] == 3 and values.ndim == 4:  # a number for each colour
            values = values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        numbered = np.empty(values.shape, np.uint16)
        for labels, out in zip(values, numbered, strict=True):
            out[:] = _numbered(labels, name)
        return [fit(numbered, data, pixels, name)]


def read(
    maps: AnyPath, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
) -> tuple[Shaped[np.ndarray, "maps map_height map_width *rgb"], str]:
    """What the file of an image holds, as it lies there, and the file's name.

    Returns:
      Whole numbers or booleans: one map of a PNG, of colours with a last axis of 3, or one or several of an NPY.

    Raises:
      BadImage: there is no such file, or it is damaged or of another size.
    """
    path = region_files.find(maps, item.image_id, SUFFIXES)
    content = region_files.read(path)
    if path.suffix == ".npy":
        return _read_npy(content, data, pixels, path.name), path.name
    return label_png.read(content, data, pixels, path.name)[None], path.name


def _numbered(values: np.ndarray, what: str) -> UInt16[np.ndarray, "height width"]:
    """Numbers the values other than 0 from 1, in ascending order."""
    distinct = np.unique(values)
    distinct = distinct[distinct != 0]
    if len(distinct) > MAX_REGIONS:
        raise BadImage(f"{what} has {len(distinct)} regions in a map; a uint16 label map holds {MAX_REGIONS}")
    return np.where(values == 0, 0, np.searchsorted(distinct, values) + 1).astype(np.uint16)


def _read_npy(
    content: bytes, data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str
) -> Integer[np.ndarray, "maps map_height map_width"]:
    """Reads an array without letting its header decide how much memory is taken, and without unpickling."""
    file = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        try:
            shape, by_columns, dtype = read_header[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError) as error:
            raise BadImage(f"{what} is no NPY file, or its header is damaged") from error
    if dtype.kind not in "biu" or len(shape) not in (2, 3) or min(shape) < 0 or max(shape) > MAX_SIDE:
        raise BadImage(f"{what} holds {dtype} {shape}, not whole numbers or booleans ([maps,] height, width)")
    fit(np.zeros((0, *shape[-2:]), np.uint16), data, pixels, what)
    start = file.tell()
    if len(content) - start != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise BadImage(f"{what} is cut short, or longer than its header says")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_columns else "C")
    if values.size and values.min() < 0:
        raise BadImage(f"{what} has negative numbers")
    values = values.astype(np.uint8) if dtype.kind == "b" else values
    return values.reshape(-1, *shape[-2:])

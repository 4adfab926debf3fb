"""A region source for existing label maps: a PNG or NPY file for each image."""

import dataclasses
import io
import itertools
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Integer, Shaped, UInt8, UInt16
from PIL import Image

from data_prep.dataset.inputs import Input
from data_prep.images import BadImage
from data_prep.regions import label_png, region_files
from data_prep.regions.coco_masks import MAX_SIDE
from data_prep.regions.mask_packing import MAX_REGIONS
from data_prep.regions.region_source import MapMaker, orient_to_image
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

SUFFIXES = (".png", ".npy")
ENDINGS = ("_gtFine_instanceIds", "_seg")  # of names in Cityscapes and ADE20K
SAMPLE = 100  # label maps that are searched for numbers from 0


@dataclasses.dataclass(frozen=True)
class LabelMapFolder:
    """A layer with the label maps of an image, in which every value except 0 is a region.

    A PNG file contains one map of gray values, palette indices, or colours, where black is 0. An NPY file contains
    whole numbers or booleans: (height, width), or (maps, height, width).

    Attributes:
      folder: the folder that contains a file of each image's name.
      name: the layer's name.
      zero_is_region: whether 0 is a region too, as in maps that number regions from 0.
    """

    folder: AnyPath
    name: str = "label_maps"
    zero_is_region: bool = False
    method: ClassVar[str] = "label_maps"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layer."""
        numbers = {"zero_is_region": True} if self.zero_is_region else {}
        return ({"name": self.name, "method": self.method} | numbers,)

    def inputs(self) -> Iterator[Input]:
        """Yields the files, in order.

        Raises:
          PrepError: the folder is missing.
        """
        return region_files.inputs(self.folder, SUFFIXES)

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Returns the maker of label maps; nothing needs to be prepared.

        Raises:
          PrepError: the folder is missing.
        """
        region_files.check(self.folder)
        make = partial(self.make, self.folder)
        return partial(make, zero_is_region=True) if self.zero_is_region else make

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns a warning if regions seem to be numbered from 0: the first maps have 0 and all numbers up to a last.

        Regions numbered from 1 with pixels of no region look the same.
        """
        names = list(itertools.islice((entry.name for entry in self.inputs()), SAMPLE))
        if self.zero_is_region or not names or not all(_counts_from_0(self.folder / name) for name in names):
            return []
        return [
            f"{self.name}: 0 occurs in each of the first {len(names)} label maps and is no region; if regions are "
            "numbered from 0, as by scikit-image, prepare the dataset with --zero_is_region"
        ]

    @staticmethod
    def make(
        maps: AnyPath,
        item: Item,
        data: bytes,
        pixels: UInt8[np.ndarray, "height width 3"],
        zero_is_region: bool = False,
    ) -> list[UInt16[np.ndarray, "maps height width"]]:
        """Returns the label maps of one image, see `MapMaker`; `maps` is the folder."""
        values, name = read(maps, item, data, pixels, ENDINGS)
        if values.shape[-1] == 3 and values.ndim == 4:  # one number per colour
            values = values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        numbered = np.empty(values.shape, np.uint16)
        for labels, out in zip(values, numbered, strict=True):
            out[:] = _numbered(labels.astype(np.int64) + 1 if zero_is_region else labels, name)
        return [orient_to_image(numbered, data, pixels, name)]


def read(
    maps: AnyPath, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"], endings: Sequence[str]
) -> tuple[Shaped[np.ndarray, "maps map_height map_width *rgb"], str]:
    """Returns the unchanged contents of an image's label map file, and the file's name.

    Args:
      maps: the folder of the label maps.
      item: the image.
      data: the image file's bytes.
      pixels: the upright image.
      endings: see `region_files.find`.

    Returns:
      Whole numbers or booleans: one map from a PNG, with a last axis of 3 if it has colours, or one or several maps
      from an NPY; and the name.

    Raises:
      BadImage: the file is missing, corrupt or of another size.
    """
    path = region_files.find(maps, item.image_id, SUFFIXES, endings)
    content = region_files.read(path)
    if path.suffix.lower() == ".npy":
        return _read_npy(content, data, pixels, path.name), path.name
    return label_png.read(content, data, pixels, path.name)[None], path.name


def _numbered(values: np.ndarray, what: str) -> UInt16[np.ndarray, "height width"]:
    """Renumbers the values other than 0 from 1, in ascending order."""
    distinct = np.unique(values)
    distinct = distinct[distinct != 0]
    if len(distinct) > MAX_REGIONS:
        raise BadImage(f"{what} has {len(distinct)} regions in a map; a uint16 label map holds at most {MAX_REGIONS}")
    return np.where(values == 0, 0, np.searchsorted(distinct, values) + 1).astype(np.uint16)


def _counts_from_0(path: AnyPath) -> bool:
    """Returns whether the numbers of a label map are 0, 1, ..., n with n > 0; False for colours and corrupt files."""
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        else:
            with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG",)) as image:
                values = np.asarray(image)
    except Exception:  # Pillow's decoders raise nearly any exception on corrupt bytes; `make` reports them
        return False
    distinct = np.unique(values)
    return values.ndim == 2 and distinct.tolist() == list(range(len(distinct))) and len(distinct) > 1


def _read_npy(
    content: bytes, data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str
) -> Integer[np.ndarray, "maps map_height map_width"]:
    """Reads an array without unpickling and without trusting its header for the amount of memory to allocate."""
    file = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for headers that Python 2 wrote
        try:
            shape, by_columns, dtype = read_header[np.lib.format.read_magic(file)](file)
        except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError) as error:
            raise BadImage(f"{what} is not an NPY file, or its header is corrupt") from error
    if dtype.kind not in "biuf" or len(shape) not in (2, 3) or min(shape) < 0 or max(shape) > MAX_SIDE:
        raise BadImage(f"{what} holds {dtype} {shape}, not whole numbers or booleans ([maps,] height, width)")
    orient_to_image(np.zeros((0, *shape[-2:]), np.uint16), data, pixels, what)
    start = file.tell()
    if len(content) - start != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise BadImage(f"{what} is truncated, or longer than its header says")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_columns else "C")
    if dtype.kind == "f":
        whole = np.nan_to_num(values, nan=-1, posinf=-1).astype(np.int64)
        if (whole != values).any():
            raise BadImage(f"{what} holds {dtype} {shape} with values that are not whole numbers")
        values = whole
    if values.size and values.min() < 0:
        raise BadImage(f"{what} has negative numbers")
    values = values.astype(np.uint8) if dtype.kind == "b" else values
    return values.reshape(-1, *shape[-2:])

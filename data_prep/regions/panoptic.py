"""A region source for COCO panoptic files: one region per segment, things and stuff; segments do not overlap.

The JSON lists the segments of each image. Their pixels are in PNG files, in the folder next to the JSON that has the
JSON's name without suffix. A pixel with the colour (R, G, B) belongs to the segment R + 256 G + 65536 B.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.dataset.inputs import Input
from data_prep.images import BadImage
from data_prep.regions import coco_annotations, coco_masks, label_png, region_files
from data_prep.regions.mask_packing import MAX_REGIONS
from data_prep.regions.region_source import LabelMaps, MapMaker, orient_to_image
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

_NUM_IDS = 1 << 24


@dataclasses.dataclass(frozen=True)
class Panoptic:
    """A layer of one label map with the listed segments that have pixels, in the order in which they are listed.

    Attributes:
      path: the annotation file.
      name: the layer's name.
    """

    path: AnyPath
    name: str = "panoptic"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layer."""
        return ({"name": self.name, "method": "coco_panoptic", "annotations": self.path.name},)

    def inputs(self) -> Iterator[Input]:
        """Yields the annotation file, then the PNG files, in order.

        Raises:
          PrepError: the file or the folder is missing.
        """
        return itertools.chain(
            coco_annotations.inputs(self.path), region_files.inputs(self.path.with_suffix(""), (".png",))
        )

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Parses the annotation file, see `data_prep.regions.coco_annotations`.

        Raises:
          PrepError: the file is missing, is not JSON or not COCO-shaped, or the folder is missing.
        """
        region_files.check(self.path.with_suffix(""))
        return partial(_make, self._index(scratch), self.path.with_suffix(""))

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns lines about skipped annotations."""
        return self._index(scratch).notes()

    def _index(self, scratch: AnyPath) -> coco_annotations.Annotations:
        return coco_annotations.index(self.path, scratch, ("file_name", "segments_info"))


def _make(
    listed: coco_annotations.Annotations,
    pngs: AnyPath,
    item: Item,
    data: bytes,
    pixels: UInt8[np.ndarray, "height width 3"],
) -> list[LabelMaps]:
    entry, found = listed.find(item.image_id)
    if not found:
        height, width = coco_masks.size(entry, listed.name)
        return [orient_to_image(np.zeros((0, height, width), np.uint16), data, pixels, listed.name)]
    if len(found) > 1:
        raise BadImage(f"{listed.name} has {len(found)} annotations of the image instead of one")
    segments, name = found[0]["segments_info"], found[0]["file_name"]
    if not isinstance(name, str) or not isinstance(segments, list):
        raise BadImage(f"{listed.name} has no 'file_name' or no list 'segments_info' for the image")
    ids = [segment.get("id") if isinstance(segment, dict) else None for segment in segments]
    if not all(type(number) is int and 0 <= number < _NUM_IDS for number in ids):
        raise BadImage(f"{listed.name} has a segment of the image whose id is not between 0 and {_NUM_IDS - 1}")
    colours = label_png.read(region_files.read(pngs / name), data, pixels, name)
    if colours.ndim != 3:
        raise BadImage(f"{name} is not RGB")
    return [orient_to_image(_labels(colours, ids, name), data, pixels, name)]


def _labels(colours: UInt8[np.ndarray, "height width 3"], ids: list[int], name: str) -> LabelMaps:
    numbers = colours.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    present = set(np.unique(numbers).tolist())
    regions = [number for number in dict.fromkeys(ids) if number in present]
    if len(regions) > MAX_REGIONS:
        raise BadImage(f"{name} has {len(regions)} segments; a uint16 label map holds at most {MAX_REGIONS}")
    label = np.zeros(_NUM_IDS, np.uint16)  # cheap: pages that are never written take no memory
    label[regions] = np.arange(1, len(regions) + 1)
    return label[numbers][None]

"""A region source for COCO instance files: one region per annotated object, including crowds."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.dataset.inputs import Input
from data_prep.regions import coco_annotations, coco_masks
from data_prep.regions.region_source import LabelMaps, MapMaker
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class Instances:
    """A layer with the masks of an image's annotations, in as many label maps as their overlaps require.

    Attributes:
      path: the annotation file.
      name: the layer's name.
    """

    path: AnyPath
    name: str = "instances"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layer."""
        return ({"name": self.name, "method": "coco_instances", "annotations": self.path.name},)

    def inputs(self) -> Iterator[Input]:
        """Yields the annotation file.

        Raises:
          PrepError: the file is missing.
        """
        return coco_annotations.inputs(self.path)

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Parses the annotation file, see `data_prep.regions.coco_annotations`.

        Raises:
          PrepError: the file is missing, is not JSON or not COCO-shaped.
        """
        return partial(_make, self._index(scratch))

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns lines about skipped annotations."""
        return self._index(scratch).notes()

    def _index(self, scratch: AnyPath) -> coco_annotations.Annotations:
        return coco_annotations.index(self.path, scratch, ("segmentation",))


def _make(
    listed: coco_annotations.Annotations, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
) -> list[LabelMaps]:
    entry, objects = listed.find(item.image_id)
    masks = (annotation["segmentation"] for annotation in objects)
    return [coco_masks.label_maps(entry, masks, data, pixels, listed.name)]

"""A region source for Segment Anything masks: a JSON for each image, as in SA-1B."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions import coco_masks, region_files
from data_prep.regions.region_source import LabelMaps, MapMaker
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

SUFFIX = ".json"


@dataclasses.dataclass(frozen=True)
class Sam:
    """A layer with an image's masks, in as many label maps as their overlaps require.

    Attributes:
      folder: the folder that contains a JSON of each image's name; None if the image source stores the JSON files next
        to the images.
      name: the layer's name.
    """

    folder: AnyPath | None
    name: str = "sam"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layer."""
        return ({"name": self.name, "method": "sam"},)

    def inputs(self) -> Iterator[Input]:
        """Yields the JSON files, in order; nothing if they are among the inputs of the image source.

        Raises:
          PrepError: the folder is missing.
        """
        return iter(()) if self.folder is None else region_files.inputs(self.folder, (SUFFIX,))

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Returns the maker of label maps; nothing needs to be prepared.

        Raises:
          PrepError: the folder is missing.
        """
        if self.folder is not None:
            region_files.check(self.folder)
        return partial(_make, self.folder)


def _make(
    jsons: AnyPath | None, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
) -> list[LabelMaps]:
    if jsons is None:
        what, text = PurePosixPath(item.image_id).with_suffix(SUFFIX).name, _beside(item)
    else:
        path = region_files.find(jsons, item.image_id, (SUFFIX,))
        what, text = path.name, region_files.read(path)
    parsed = coco_masks.parse(text, what)
    masks = parsed.get("annotations")
    if not isinstance(masks, list) or not all(isinstance(mask, dict) and "segmentation" in mask for mask in masks):
        raise BadImage(f"{what} has no list 'annotations' of entries with 'segmentation'")
    of_masks = (mask["segmentation"] for mask in masks)
    return [coco_masks.label_maps(parsed.get("image"), of_masks, data, pixels, what)]


def _beside(item: Item) -> bytes:
    if item.beside is None:
        raise PrepError("these images have no JSON next to them; give the folder that contains SAM's masks")
    try:
        return item.beside(SUFFIX)
    except FileNotFoundError as error:
        raise BadImage(f"no {SUFFIX} next to the image") from error
    except OSError as error:
        raise BadImage(f"the {SUFFIX} next to the image cannot be read: {error.strerror}") from error

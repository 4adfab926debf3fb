"""A region source for Segment Anything masks.

Each image has a JSON, as in SA-1B or as written by Segment Anything's scripts/amg.py with --convert-to-rle, or a folder
of PNG files, one per mask, as the script writes them otherwise.
"""

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions import coco_masks, label_png, region_files
from data_prep.regions.region_source import LabelMaps, MapMaker
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath, walk_files

SUFFIX = ".json"
TABLE = "metadata.csv"  # in each folder of PNG files that the script writes


@dataclasses.dataclass(frozen=True)
class Sam:
    """A layer with an image's masks, in as many label maps as their overlaps require.

    Attributes:
      folder: the folder that contains a JSON or a folder of each image's name; None if the image source stores the JSON
        files next to the images.
      name: the layer's name.
    """

    folder: AnyPath | None
    name: str = "sam"

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layer."""
        return ({"name": self.name, "method": "sam"},)

    def inputs(self) -> Iterator[Input]:
        """Yields the JSON and PNG files, in order; nothing if they are among the inputs of the image source.

        Raises:
          PrepError: the folder is missing.
        """
        if self.folder is None:
            return iter(())
        region_files.check(self.folder)
        return self._files()

    def _files(self) -> Iterator[Input]:
        tables = {PurePosixPath(table.name).parent for table in region_files.inputs(self.folder, (".csv",))}
        for entry in region_files.inputs(self.folder, (SUFFIX, ".png")):
            path = PurePosixPath(entry.name)
            if path.suffix == SUFFIX or path.parent in tables:  # other PNG files may be images
                yield entry

    def ready(self, scratch: AnyPath) -> MapMaker:
        """Returns the maker of label maps; nothing needs to be prepared.

        Raises:
          PrepError: the folder is missing.
        """
        if self.folder is not None:
            region_files.check(self.folder)
        return partial(_make, self.folder)

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns nothing."""
        return []


def _make(
    jsons: AnyPath | None, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]
) -> list[LabelMaps]:
    if jsons is None:
        what, text = PurePosixPath(item.image_id).with_suffix(SUFFIX).name, _beside(item)
    elif (folder := _find_folder(jsons, item.image_id)) is not None:
        return [_read_pngs(folder, data, pixels)]
    else:
        path = region_files.find(jsons, item.image_id, (SUFFIX,))
        what, text = path.name, region_files.read(path)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{what} is not JSON") from error
    masks = parsed.get("annotations") if isinstance(parsed, dict) else parsed
    if not isinstance(masks, list) or not all(isinstance(mask, dict) and "segmentation" in mask for mask in masks):
        raise BadImage(f"{what} has no list 'annotations' of entries with 'segmentation', and is no such list")
    image = parsed.get("image") if isinstance(parsed, dict) else _image_of(masks, pixels)
    return [coco_masks.label_maps(image, (mask["segmentation"] for mask in masks), data, pixels, what)]


def _image_of(masks: list[dict[str, Any]], pixels: UInt8[np.ndarray, "height width 3"]) -> dict[str, Any]:
    """Returns the image entry that the script's list lacks, from the size of the first mask."""
    first = masks[0]["segmentation"] if masks else None
    size = first.get("size") if isinstance(first, dict) else list(pixels.shape[:2])
    return dict(zip(("height", "width"), size, strict=False)) if isinstance(size, list) else {}


def _find_folder(masks: AnyPath, image_id: str) -> AnyPath | None:
    """Returns the folder of PNG files that has the image's path or base name, without suffix; None if there is none."""
    path = PurePosixPath(image_id).with_suffix("")
    return next((masks / str(name) for name in (path, path.name) if (masks / str(name) / TABLE).is_file()), None)


def _read_pngs(folder: AnyPath, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]) -> LabelMaps:
    """Returns the label maps of a folder of binary masks, 0.png, 1.png, ..."""
    names = sorted((name for name in walk_files(folder) if name.endswith(".png")), key=lambda name: (len(name), name))
    segmentations, shape = [], pixels.shape[:2]
    for name in names:
        mask = label_png.read(region_files.read(folder / name), data, pixels, f"{folder.name}/{name}")
        if mask.ndim != 2:
            raise BadImage(f"{folder.name}/{name} has colours; a mask is black and white")
        shape = mask.shape
        counts = coco_masks.run_lengths(mask.ravel(order="F") > 0).tolist()
        segmentations.append({"size": list(shape), "counts": counts})
    image = {"height": shape[0], "width": shape[1]}
    return coco_masks.label_maps(image, segmentations, data, pixels, folder.name)


def _beside(item: Item) -> bytes:
    if item.beside is None:
        raise PrepError("these images have no JSON next to them; give the folder that contains SAM's masks")
    try:
        return item.beside(SUFFIX)
    except FileNotFoundError as error:
        raise BadImage(f"no {SUFFIX} next to the image") from error
    except OSError as error:
        raise BadImage(f"the {SUFFIX} next to the image cannot be read: {error.strerror}") from error

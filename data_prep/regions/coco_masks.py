"""The ways in which COCO-style JSON writes the masks of an image: polygons and run lengths.

Run lengths are checked and decoded here: pycocotools trusts them, so that counts which are too short leave pixels
undefined, and compressed ones which are damaged shift bits past the end of a number.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from pycocotools import mask as coco_mask

from data_prep.images import BadImage
from data_prep.regions import mask_packing
from data_prep.regions.region_source import LabelMaps, fit

MAX_SIDE = 1 << 24  # pixels; of anything that claims to be larger, not even the size is looked at
MAX_OUTLINE = 1000  # times height + width; no outline in an image is so long
MAX_CHARACTERS = 6  # for one count: 30 bits


def parse(data: bytes, what: str) -> dict[str, Any]:
    """Parses a JSON object.

    Raises:
      BadImage: it is none.
    """
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{what} is no JSON") from error
    if not isinstance(parsed, dict):
        raise BadImage(f"{what} is no JSON object")
    return parsed


def size(image: Any, what: str) -> tuple[int, int]:
    """Height and width, in pixels, of a JSON's entry about an image.

    Raises:
      BadImage: they are missing or no positive whole numbers.
    """
    sides = [image.get(key) if isinstance(image, dict) else None for key in ("height", "width")]
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise BadImage(f"{what} gives the image no height and width")
    return sides[0], sides[1]


def label_maps(
    image: Any, segmentations: Iterable[Any], data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str
) -> LabelMaps:
    """Lays all masks of an image into label maps, upright.

    Args:
      image: the JSON's entry about the image; its "height" and "width" are the size of the masks.
      segmentations: a list of polygons, or run lengths ({"size", "counts"}), for each mask.
      data: the image file's bytes.
      pixels: the upright image.
      what: names the JSON in messages.

    Raises:
      BadImage: a mask is malformed or the size is not the image's.
    """
    height, width = size(image, what)
    fit(np.zeros((0, height, width), np.uint16), data, pixels, what)  # before there are masks of that size
    masks = []
    for number, segmentation in enumerate(segmentations):
        try:
            masks.append(_run_lengths(segmentation, height, width))
        except BadImage as error:
            raise BadImage(f"{what}: segmentation {number} of the image {error}") from error
    return fit(mask_packing.lay(masks, height, width), data, pixels, what)


def _run_lengths(segmentation: Any, height: int, width: int) -> Int64[np.ndarray, " runs"]:
    """Run lengths of one mask, as `mask_packing.lay` takes them."""
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadImage("is neither polygons nor size and counts")
    if segmentation["size"] != [height, width]:
        raise BadImage(f"is not of the image's size [{height}, {width}]")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs = _decompressed(counts.encode("ascii", "replace"))  # "?" is none of the characters
    elif isinstance(counts, list) and all(type(count) is int and 0 <= count <= height * width for count in counts):
        runs = np.array(counts, np.int64)
    else:
        raise BadImage("has counts that are no run lengths")
    if (runs < 0).any() or runs.sum() != height * width:
        raise BadImage(f"has counts that are negative or do not sum to {height} * {width}")
    return runs


def _decompressed(characters: bytes) -> Int64[np.ndarray, " runs"]:
    """Run lengths of COCO's compressed form: numbers of 5 bits a character, the third before the last subtracted.

    Each character is 48 + 5 bits of the number, lowest first, + 32 if more follow; the last one's bit 4 is the sign.
    """
    codes = np.frombuffer(characters, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise BadImage("has counts that are no compressed run lengths")
    last = np.flatnonzero(codes & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    if lengths.max() > MAX_CHARACTERS:
        raise BadImage("has counts that are no compressed run lengths")
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    counts = np.add.reduceat((codes & 31) << (5 * place), first)
    counts -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    # From the fourth on, the difference from the one before the previous is stored.
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts


def _from_polygons(polygons: list[Any], height: int, width: int) -> Int64[np.ndarray, " runs"]:
    """Run lengths of the pixels that any of the polygons encloses, as pycocotools draws them."""
    enclosing = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(_is_coordinate(value) for value in polygon):
            raise BadImage("has a polygon that is no list of x, y, x, y, ...")
        if len(polygon) < 6:  # encloses nothing; and pycocotools takes four numbers for a box
            continue
        points = np.array(polygon, np.float64).reshape(-1, 2)
        # pycocotools takes 80 bytes for each pixel of the outline: what lies far away would take all memory.
        if np.abs(points - np.roll(points, 1, 0)).max(1).sum() > MAX_OUTLINE * (height + width):
            raise BadImage("has a polygon far larger than the image")
        enclosing.append(polygon)
    if not enclosing:
        return np.array([height * width])
    return _decompressed(coco_mask.merge(coco_mask.frPyObjects(enclosing, height, width))["counts"])


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_SIDE  # which NaN is not

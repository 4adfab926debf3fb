"""Decoders for the masks of an image in COCO-style JSON: polygons and run lengths.

Run lengths are checked and decoded here because pycocotools trusts them: counts that are too short leave pixels
undefined, and corrupt compressed counts shift bits past the end of a number.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from pycocotools import mask as coco_mask

from data_prep.images import BadImage
from data_prep.regions import mask_packing
from data_prep.regions.region_source import LabelMaps, orient_to_image

MAX_SIDE = 1 << 24  # pixels; an image, array or coordinate that claims more is rejected outright
MAX_OUTLINE = 1000  # times (height + width); no outline within an image is that long
MAX_CHARACTERS_PER_COUNT = 6  # of one count: 30 bits


def size(image: Any, what: str) -> tuple[int, int]:
    """Returns the height and width, in pixels, from a JSON's entry about an image.

    Raises:
      BadImage: one of them is missing or not a positive whole number.
    """
    sides = [image.get(key) if isinstance(image, dict) else None for key in ("height", "width")]
    if not all(type(side) in (int, float) and side == side // 1 and 0 < side <= MAX_SIDE for side in sides):
        raise BadImage(f"{what} has no valid height and width for the image")
    return int(sides[0]), int(sides[1])


def label_maps(
    image: Any, segmentations: Iterable[Any], data: bytes, pixels: UInt8[np.ndarray, "height width 3"], what: str
) -> LabelMaps:
    """Packs all masks of an image into upright label maps.

    Args:
      image: the JSON's entry about the image; its "height" and "width" are the size of the masks.
      segmentations: for each mask, a list of polygons, run lengths ({"size", "counts"}), or a list of run lengths,
        whose union is the mask.
      data: the image file's bytes.
      pixels: the upright image.
      what: the name of the JSON in messages.

    Raises:
      BadImage: a mask is malformed, or the masks do not have the image's size.
    """
    height, width = size(image, what)
    orient_to_image(
        np.zeros((0, height, width), np.uint16), data, pixels, what
    )  # before any mask of that size is decoded
    masks = []
    for number, segmentation in enumerate(segmentations):
        try:
            masks.append(_run_lengths(segmentation, height, width))
        except BadImage as error:
            raise BadImage(f"{what}: segmentation {number} of the image {error}") from error
    return orient_to_image(mask_packing.pack_masks(masks, height, width), data, pixels, what)


def run_lengths(inside: Bool[np.ndarray, " pixels"]) -> Int64[np.ndarray, " runs"]:
    """Returns the lengths of alternating runs of pixels outside and inside of a mask, in COCO's order, by columns."""
    starts = np.flatnonzero(np.diff(inside, prepend=False))
    return np.diff(starts, prepend=0, append=len(inside))


def _run_lengths(segmentation: Any, height: int, width: int) -> Int64[np.ndarray, " runs"]:
    """Returns the run lengths of one mask, in the form that `mask_packing.pack_masks` takes."""
    if isinstance(segmentation, list) and segmentation and all(isinstance(part, dict) for part in segmentation):
        return _union([_run_lengths(part, height, width) for part in segmentation])
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise BadImage("has neither polygons nor size and counts")
    if segmentation["size"] != [height, width]:
        raise BadImage(f"does not have the image's size [{height}, {width}]")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        runs = _decompressed(counts.encode("ascii", "replace"))  # "?" is not a valid character of the counts
    elif isinstance(counts, list) and all(type(count) is int and 0 <= count <= height * width for count in counts):
        runs = np.array(counts, np.int64)
    else:
        raise BadImage("has counts that are not run lengths")
    if (runs < 0).any() or runs.sum() != height * width:
        raise BadImage(f"has counts that are negative or do not sum to {height} * {width}")
    return runs


def _union(masks: list[Int64[np.ndarray, " _"]]) -> Int64[np.ndarray, " runs"]:
    """Returns the run lengths of the pixels in any of the masks, which have one size."""
    return run_lengths(np.logical_or.reduce([np.repeat(np.arange(len(runs)) % 2 == 1, runs) for runs in masks]))


def _decompressed(characters: bytes) -> Int64[np.ndarray, " runs"]:
    """Decodes COCO's compressed run lengths, in which each character stores 5 bits of a number.

    Each character is 48 + 5 bits of the number, lowest first, + 32 if more follow; the last one's bit 4 is the sign.
    """
    codes = np.frombuffer(characters, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise BadImage("has counts that are not compressed run lengths")
    last = np.flatnonzero(codes & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    if lengths.max() > MAX_CHARACTERS_PER_COUNT:
        raise BadImage("has counts that are not compressed run lengths")
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    counts = np.add.reduceat((codes & 31) << (5 * place), first)
    counts -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    # From the fourth count on, the number stored is the difference from the count two places before.
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts


def _from_polygons(polygons: list[Any], height: int, width: int) -> Int64[np.ndarray, " runs"]:
    """Returns the run lengths of the pixels enclosed by any of the polygons, as pycocotools draws them."""
    enclosing = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(_is_coordinate(value) for value in polygon):
            raise BadImage("has a polygon that is not a list x, y, x, y, ...")
        if len(polygon) < 6:  # encloses nothing; pycocotools would read four numbers as a box
            continue
        points = np.array(polygon, np.float64).reshape(-1, 2)
        # pycocotools allocates 80 bytes for each pixel of the outline: points far away would take all memory.
        if np.abs(points - np.roll(points, 1, 0)).max(1).sum() > MAX_OUTLINE * (height + width):
            raise BadImage("has a polygon far larger than the image")
        enclosing.append(polygon)
    if not enclosing:
        return np.array([height * width])
    return _decompressed(coco_mask.merge(coco_mask.frPyObjects(enclosing, height, width))["counts"])


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_SIDE  # False for NaN

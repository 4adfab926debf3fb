"""Packing of masks that may overlap into few label maps by first-fit colouring; no mask loses a pixel."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from data_prep.images import BadImage

MAX_REGIONS = np.iinfo(np.uint16).max
MAX_MAPS = 256


def pack_masks(
    masks: Sequence[Int64[np.ndarray, " _"]], height: int, width: int
) -> UInt16[np.ndarray, "maps {height} {width}"]:
    """Puts each mask, the largest first, into the first label map in which it overlaps no other.

    Every mask that is not empty equals one label of one map; identical masks are in different maps. Masks of equal area
    are placed in the given order. Only one mask is decoded at a time.

    Args:
      masks: COCO's run lengths of each mask: how many pixels are 0, then 1, then 0, ..., down the columns from the
        left; not negative, with the sum height * width.
      height: the image's height, in pixels.
      width: the image's width, in pixels.

    Returns:
      Label maps: 0 = no region; 1..n in each map, in the order in which the masks were placed there. The shape is
      (0, height, width) if there are no masks, or only empty ones.

    Raises:
      BadImage: one map needs more than 65535 masks, or more than 256 maps are needed (they might not fit in memory).
    """
    areas = np.array([runs[1::2].sum() for runs in masks], np.int64)
    order = np.argsort(-areas, kind="stable")
    maps: list[UInt16[np.ndarray, "width height"]] = []  # columns first, in the order of the run lengths
    counts: list[int] = []
    for index in order[: np.count_nonzero(areas)]:
        box, inside = _decode(masks[index], height)
        free = (number for number, labels in enumerate(maps) if not labels[box][inside].any())
        number = next(free, len(maps))
        if number == len(maps):
            if number == MAX_MAPS:
                raise BadImage(f"masks overlap so much that they need more than {MAX_MAPS} label maps")
            maps.append(np.zeros((width, height), np.uint16))
            counts.append(0)
        if counts[number] == MAX_REGIONS:
            raise BadImage(f"more than {MAX_REGIONS} masks that do not overlap; a uint16 label map cannot hold more")
        counts[number] += 1
        maps[number][box][inside] = counts[number]
    if not maps:
        return np.zeros((0, height, width), np.uint16)
    return np.stack([labels.T for labels in maps])


def _decode(
    runs: Int64[np.ndarray, " runs"], height: int
) -> tuple[tuple[slice, slice], Bool[np.ndarray, "columns rows"]]:
    """Returns the bounding box of a non-empty mask, in columns and rows, and the mask within it."""
    ends = runs.cumsum()
    ones = 1 + 2 * np.flatnonzero(runs[1::2])
    left, right = ends[ones[0] - 1] // height, (ends[ones[-1]] - 1) // height + 1
    cut = np.diff(ends.clip(left * height, right * height), prepend=left * height)
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, cut).reshape(-1, height)
    rows = np.flatnonzero(columns.any(0))
    up_down = slice(rows[0], rows[-1] + 1)
    return (slice(left, right), up_down), columns[:, up_down]

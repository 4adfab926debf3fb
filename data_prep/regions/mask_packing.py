"""Masks that may overlap, laid into as few label maps as first-fit colouring finds: no mask loses a pixel."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from data_prep.images import BadImage

MAX_REGIONS = np.iinfo(np.uint16).max
MAX_MAPS = 256


def lay(
    masks: Sequence[Int64[np.ndarray, " _"]], height: int, width: int
) -> UInt16[np.ndarray, "maps {height} {width}"]:
    """Puts each mask, the largest first, into the first label map in which it overlaps no other.

    Every mask that is not empty equals one label of one map; of equal masks, each has its own map. Masks of equal area
    are taken in their order. Only one mask is decoded at a time.

    Args:
      masks: COCO's run lengths of each: how many pixels are 0, then 1, then 0, ..., down the columns from the left;
        not negative, with the sum height * width.
      height: of the image, in pixels.
      width: of the image, in pixels.

    Returns:
      Label maps: 0 = no region, 1..n in each in the order in which the masks were put there. (0, height, width) if
      there are no masks, or only empty ones.

    Raises:
      BadImage: more than 65535 masks in one map, or more than 256 maps (which might not fit into memory).
    """
    areas = np.array([runs[1::2].sum() for runs in masks], np.int64)
    order = np.argsort(-areas, kind="stable")
    maps: list[UInt16[np.ndarray, "width height"]] = []  # columns first, as the masks run
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
            raise BadImage(f"more than {MAX_REGIONS} masks that do not overlap; a uint16 label map holds no more")
        counts[number] += 1
        maps[number][box][inside] = counts[number]
    if not maps:
        return np.zeros((0, height, width), np.uint16)
    return np.stack([labels.T for labels in maps])


def _decode(
    runs: Int64[np.ndarray, " runs"], height: int
) -> tuple[tuple[slice, slice], Bool[np.ndarray, "columns rows"]]:
    """The bounding box of a mask that is not empty, in columns and rows, and the mask within it."""
    ends = runs.cumsum()
    ones = 1 + 2 * np.flatnonzero(runs[1::2])
    left, right = ends[ones[0] - 1] // height, (ends[ones[-1]] - 1) // height + 1
    cut = np.diff(ends.clip(left * height, right * height), prepend=left * height)
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, cut).reshape(-1, height)
    rows = np.flatnonzero(columns.any(0))
    up_down = slice(rows[0], rows[-1] + 1)
    return (slice(left, right), up_down), columns[:, up_down]

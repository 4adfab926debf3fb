"""Shards that contain many images each, and the ranges of them that make up a slice."""

import bisect
import dataclasses
import itertools
from functools import cached_property

from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class ShardRange:
    """Consecutive images of one shard file.

    Attributes:
      path: the file's path.
      number: the file's number among those of its source.
      start: the number of the first image within the file.
      stop: the number of the image after the last one.
    """

    path: AnyPath
    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class ShardList:
    """The shard files of a source, with the number of images in each.

    Attributes:
      paths: the files' paths, in order.
      counts: the number of images in each file; may be 0.
    """

    paths: tuple[AnyPath, ...]
    counts: tuple[int, ...]

    @cached_property
    def _ends(self) -> list[int]:
        """The number of images up to and including each file."""
        return list(itertools.accumulate(self.counts))

    @property
    def total(self) -> int:
        """The number of images in all files."""
        return self._ends[-1] if self._ends else 0

    def cut(self, start: int, stop: int) -> tuple[ShardRange, ...]:
        """Returns the ranges that contain images number `start` to `stop` (exclusive)."""
        ranges = []
        number = bisect.bisect_right(self._ends, start)
        while start < stop:
            before = self._ends[number] - self.counts[number]
            end = min(stop, self._ends[number])
            if start < end:
                ranges.append(ShardRange(self.paths[number], number, start - before, end - before))
            start, number = max(start, end), number + 1
        return tuple(ranges)

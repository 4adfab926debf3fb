"""Files that hold many images each, in order, and the ranges of them that a slice is made of."""

import bisect
import dataclasses
import itertools
from functools import cached_property

from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class ShardRange:
    """Consecutive images of one file.

    Attributes:
      path: of the file.
      number: of the file among those of its source.
      start: number of the first image within the file.
      stop: number of the image after the last.
    """

    path: AnyPath
    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class ShardList:
    """Files with known numbers of images.

    Attributes:
      paths: of the files, in order.
      counts: images in each; may be 0.
    """

    paths: tuple[AnyPath, ...]
    counts: tuple[int, ...]

    @cached_property
    def _ends(self) -> list[int]:
        """Images in each file and those before it."""
        return list(itertools.accumulate(self.counts))

    @property
    def total(self) -> int:
        """Images in all files."""
        return self._ends[-1] if self._ends else 0

    def cut(self, start: int, stop: int) -> tuple[ShardRange, ...]:
        """The ranges that hold the images from number `start` to `stop`, which is excluded."""
        ranges = []
        number = bisect.bisect_right(self._ends, start)
        while start < stop:
            before = self._ends[number] - self.counts[number]
            end = min(stop, self._ends[number])
            if start < end:
                ranges.append(ShardRange(self.paths[number], number, start - before, end - before))
            start, number = max(start, end), number + 1
        return tuple(ranges)

"""Checks of one shard: every byte is read and compared with the index and the metadata."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence, Set

import numpy as np
from jaxtyping import Int64, UInt16, UInt64

from data_prep.dataset import records, tfrecord
from data_prep.errors import one_line
from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class ExpectedShard:
    """A shard to check, and what the index and the metadata state about it.

    Attributes:
      path: path of the shard.
      first: number of its first record in the split.
      claimed: number of its records according to the metadata.
      rows: the shard's rows of the index: offset of each frame and length of its data, in bytes; None if the index
        cannot be used.
      layers: names of the dataset's layers.
      semantic: names of the layers whose labels are classes, so an image need not have all of them.
      num_classes: number of classes that the dataset names.
    """

    path: AnyPath
    first: int
    num_records: int
    rows: Int64[np.ndarray, "rows 2"] | None
    layers: tuple[str, ...]
    semantic: frozenset[str]
    num_classes: int


@dataclasses.dataclass(frozen=True)
class ShardContents:
    """The contents of a shard, and its problems.

    Attributes:
      problems: one line per problem.
      whole: whether every frame was read and their number is the one in the metadata.
      num_bytes: size of the file, in bytes.
      num_regions: number of regions in the label maps of each layer; None if a map cannot be counted.
      ids: a 64-bit digest of the image_id of each record that could be decoded.
      numbers: numbers of these records in the split.
    """

    problems: tuple[str, ...]
    whole: bool
    num_bytes: int
    num_regions: tuple[int, ...] | None
    ids: UInt64[np.ndarray, " decoded"]
    numbers: Int64[np.ndarray, " decoded"]


def check_shard(shard: ExpectedShard, advance: Callable[[int], None]) -> ShardContents:
    """Reads every byte of a shard and compares it with the index and the metadata.

    Args:
      shard: the shard to check.
      advance: called after each record with the number of checked records.
    """
    return _ShardCheck(shard, advance).run()


class _ShardCheck:
    """The state of the check of one shard."""

    def __init__(self, shard: ExpectedShard, advance: Callable[[int], None]):
        self.shard = shard
        self.advance = advance
        self.problems: list[str] = []
        self.frames: list[tuple[int, int]] = []
        self.num_skipped_frames = 0  # number of frames skipped after broken ones
        self.broken = False
        self.num_regions: Int64[np.ndarray, " layers"] | None = np.zeros(len(shard.layers), np.int64)
        self.ids: list[int] = []
        self.numbers: list[int] = []

    def run(self) -> ShardContents:
        size = 0
        try:
            size, start = self.shard.path.stat().st_size, 0
            while start is not None:
                start = self._check_from(start, size)
        except OSError as error:
            self.broken = True
            what = (
                "the shard is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            )
            self.problems.append(f"{self.shard.path}: {what}; copy it again, or prepare the split with --overwrite")
        if not self.broken:
            self._compare(np.array(self.frames, np.int64).reshape(-1, 2))
        return ShardContents(
            problems=tuple(self.problems),
            whole=not self.broken and len(self.frames) == self.shard.num_records,
            num_bytes=size,
            num_regions=None if self.num_regions is None else tuple(self.num_regions.tolist()),
            ids=np.array(self.ids, np.uint64),
            numbers=np.array(self.numbers, np.int64),
        )

    def _check_from(self, start: int, size: int) -> int | None:
        """Checks the frames from byte `start` on; returns where to continue after a broken frame, None at the end."""
        try:
            for offset, data in tfrecord.frames(self.shard.path, start):
                number = self.shard.first + self.num_skipped_frames + len(self.frames)
                self.frames.append((offset, len(data)))
                self._check_record(number, offset, data)
                self.advance(len(self.frames))
            return None
        except tfrecord.FrameError as error:
            self.broken = True
            place = self.num_skipped_frames + len(self.frames)
            line = f"{self.shard.path}: record {self.shard.first + place} (byte {error.offset}): {error.reason}"
            rows = self.shard.rows
            if rows is None:
                self.problems.append(f"{line}; the rest of the shard was not checked")
                return None
            later = np.flatnonzero(rows[:, 0] > error.offset)
            present = later[rows[later, 0] < size]
            gone = len(later) - len(present)
            self.problems.append(line + (f"; {gone} more records should follow it" if gone else ""))
            if not len(present):
                return None
            self.num_skipped_frames = int(present[0]) - len(self.frames)
            return int(rows[present[0], 0])

    def _compare(self, frames: Int64[np.ndarray, "records 2"]) -> None:
        """Compares the frames with the index, and their number with the metadata."""
        shard, count = self.shard, len(frames)
        says = {"metadata": shard.num_records} | ({} if shard.rows is None else {"index": len(shard.rows)})
        for number in sorted({said for said in says.values() if said != count}):
            who = " and the ".join(name for name, said in says.items() if said == number)
            self.problems.append(f"{shard.path}: holds {count} records, not {number} as in the {who}")
        if says.get("index") != count:
            return
        different = np.flatnonzero((frames != shard.rows).any(axis=1))
        if len(different):
            place = int(different[0])
            (offset, length), (said_offset, said_length) = frames[place], shard.rows[place]
            others = f"; {len(different) - 1} later records differ too" if len(different) > 1 else ""
            self.problems.append(
                f"{shard.path}: record {shard.first + place} (byte {offset}): has {length} bytes, unlike the index, "
                f"which says byte {said_offset}, {said_length} bytes{others}"
            )

    def _check_record(self, number: int, offset: int, data: bytes) -> None:
        where = f"{self.shard.path}: record {number} (byte {offset}"
        try:
            record = records.decode(data)
        except ValueError as error:
            self.problems.append(f"{where}): {one_line(error)}")
            self.num_regions = None
            return
        self.ids.append(int.from_bytes(hashlib.blake2b(record.image_id.encode(), digest_size=8).digest(), "little"))
        self.numbers.append(number)
        what = [*_image_problems(record, data)]
        counts, region_problems = _count_regions(record, self.shard.layers, self.shard.semantic)
        what += region_problems
        if not -1 <= record.label < (self.shard.num_classes or np.inf):
            what.append(f"label {record.label} is neither -1 nor one of the dataset's {self.shard.num_classes} classes")
        self.problems += [f"{where}, {record.image_id!r}): {one}" for one in what]
        if region_problems:
            self.num_regions = None
        if self.num_regions is not None:
            self.num_regions += counts


def _image_problems(record: records.Record, data: bytes) -> Iterator[str]:
    stated = records.stated_size(data)
    if stated != (record.height, record.width):
        of_maps = f"{record.height}x{record.width} in regions/shape"
        yield f"height and width are {stated[0]}x{stated[1]}, but {of_maps}"
    try:
        height, width = records.decode_image(record.image).shape[:2]
    except ValueError as error:
        yield f"the image cannot be decoded: {one_line(error)}"
        return
    if (height, width) != stated:
        yield f"the image is {height}x{width} (height x width), not {stated[0]}x{stated[1]} as the record says"


def _count_regions(
    record: records.Record, layers: Sequence[str], semantic: Set[str]
) -> tuple[Int64[np.ndarray, " layers"], list[str]]:
    """Counts the regions in each layer; returns the counts, valid only without problems, and the problems."""
    counts = np.zeros(len(layers), np.int64)
    of_maps = record.region_layers
    if not all(0 <= layer < len(layers) for layer in of_maps):
        return counts, [f"region_layers {list(of_maps)}: the dataset has layers 0 to {len(layers) - 1}"]
    problems = []
    if list(of_maps) != sorted(of_maps):
        problems.append(f"region_layers {list(of_maps)} are not ascending")
    if len(record.num_regions) != len(of_maps):
        return counts, [*problems, f"num_regions has {len(record.num_regions)} counts for {len(of_maps)} label maps"]
    try:
        maps = record.regions
    except (ValueError, OverflowError, MemoryError) as error:
        return counts, [*problems, one_line(error).removeprefix(f"record {record.image_id}: ")]
    for number, (one, layer, said) in enumerate(zip(maps, of_maps, record.num_regions, strict=True)):
        highest, gaps = _labels(one)
        present = highest - len(gaps)
        counts[layer] += present
        which = f"label map {number} (layer {layers[layer]!r})"
        if len(gaps) and layers[layer] not in semantic:
            some = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
            problems.append(f"{which}: has labels up to {highest}, but no pixel of {some}")
        elif present != said:
            problems.append(f"{which}: has {present} regions, but num_regions says {said}")
    return counts, problems


def _labels(label_map: UInt16[np.ndarray, "height width"]) -> tuple[int, Int64[np.ndarray, " gaps"]]:
    """Returns the highest label, and the labels below it that no pixel has."""
    counts = np.bincount(label_map.reshape(-1), minlength=1)
    return len(counts) - 1, np.flatnonzero(counts[1:] == 0) + 1

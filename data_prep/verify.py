"""Checks a whole dataset and says what is broken: `python -m data_prep.verify DATASET`.

Prints a line for each problem. Ends with status 0 if the dataset is sound, 1 if it is broken, and 2 if it could not be
checked: wrong usage, no dataset there, a worker process that died.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt16, UInt64

from data_prep import progress, reading
from data_prep.errors import PrepError
from data_prep.reading import Split
from rmae_jax import records

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
MOST_LINES = 20  # for one shard, and for what is found across shards
_FEATURES = {field.partition("/")[0] for field in records.FIELDS if field not in records.OPTIONAL_FIELDS}


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be checked, and what the files beside it say of it.

    Attributes:
      path: of the shard.
      first: number of its first record in the split.
      claimed: number of its records according to the metadata.
      rows: of the index: offset of each frame and length of its data, in bytes; None if the index cannot be used.
      layers: names of the dataset's layers.
      num_classes: how many classes the dataset names.
    """

    path: Path
    first: int
    claimed: int
    rows: Int64[np.ndarray, "rows 2"] | None
    layers: tuple[str, ...]
    num_classes: int


@dataclasses.dataclass(frozen=True)
class Found:
    """What a shard holds.

    Attributes:
      problems: a line for each.
      whole: every frame was read, and there are as many as the metadata says.
      num_bytes: size of the file.
      num_regions: counted in the label maps, for each layer; None if a map cannot be counted.
      ids: a 64-bit digest of the image_id of each record that could be decoded.
      numbers: of these records in the split.
    """

    problems: tuple[str, ...]
    whole: bool
    num_bytes: int
    num_regions: tuple[int, ...] | None
    ids: UInt64[np.ndarray, " decoded"]
    numbers: Int64[np.ndarray, " decoded"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found in one split.

    Attributes:
      problems: a line for each; beyond `MOST_LINES` for a shard, one that counts the others.
      num_problems: the number of all of them.
      summary: what a sound split holds, in one line.
    """

    problems: tuple[str, ...]
    num_problems: int
    summary: str = ""


def verify(
    folder: Path,
    split: str | None = None,
    *,
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Verdict]:
    """Checks a dataset.

    Args:
      folder: of the dataset.
      split: the one to check; all of them if None.
      workers: number of processes.
      report: called with the number of records checked and the number of all.

    Returns:
      What was found beside the splits, then in each split, in order.

    Raises:
      PrepError: there is no dataset, or no such split.
      BrokenProcessPool: a worker died.
    """
    splits = reading.find_splits(folder)
    chosen = splits if split is None else reading.choose(splits, split)
    shared, tfds_lengths = _check_tfds(folder, splits)
    if split is None:
        shared += [f"{path}: left over from a job that was killed; delete it" for path in sorted(folder.glob("*.tmp"))]
    beside = [_check_beside(one, tfds_lengths) for one in chosen]
    shards = [shard for _, _, its in beside for shard in its]
    total, done, found = sum(shard.claimed for shard in shards), 0, {}
    report(done, total)
    for shard, result in _check_all(shards, workers):
        found[shard.path] = result
        done += shard.claimed
        report(done, total)
    return [
        Verdict(tuple(shared), len(shared)),
        *(_verdict(one, *its, found) for one, its in zip(chosen, beside, strict=True)),
    ]


def _check_tfds(folder: Path, splits: Sequence[Split]) -> tuple[list[str], dict[str, Any] | None]:
    """Problems of the files that all splits share, and what they say of each split's shard lengths."""
    problems = []
    names = sorted({split.name for split in splits})
    if len(names) > 1:
        problems.append(f"{folder}: holds several datasets: {', '.join(names)}; give each a folder of its own")
    path = folder / "features.json"
    try:
        absent = _FEATURES - json.loads(path.read_bytes())["featuresDict"]["features"].keys()
        if absent:
            problems.append(f"{path}: lacks {', '.join(sorted(absent))}; copy it again")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problems.append(_unreadable(path, error))
    path = folder / "dataset_info.json"
    try:
        info = json.loads(path.read_bytes())
        lengths = {split["name"]: [int(length) for length in split["shardLengths"]] for split in info["splits"]}
        if info["name"] not in names:
            problems.append(
                f"{path}: the dataset's name is {info['name']!r} there, but {names[0]!r} in the files' names"
            )
    except (OSError, ValueError, LookupError, TypeError) as error:
        return [*problems, _unreadable(path, error)], None
    gone = sorted(lengths.keys() - {split.split for split in splits})
    return [*problems, *(f"{path}: split {name!r} has no files here; copy them again" for name in gone)], lengths


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: cannot be read ({error.strerror}); copy it again"
    return f"{path}: is not what TFDS writes ({type(error).__name__}: {error}); copy it again"


def _check_beside(split: Split, tfds_lengths: dict[str, Any] | None) -> tuple[list[str], dict[str, Any], list[Shard]]:
    """Checks everything of a split but its shards' contents.

    Returns:
      Problems, the metadata (empty if it cannot be used), and the shards to check.
    """
    if split.unfinished_path.exists() and not split.metadata_path.exists():
        again = "give the same data_prep command again to finish it"
        return [f"{split.unfinished_path}: the job that prepares {split} has not finished; {again}"], {}, []
    problems = []
    if split.unfinished_path.exists():
        problems.append(f"{split.unfinished_path}: left over from a job, though {split} is finished; delete it")
    try:
        metadata = reading.read_metadata(split)
    except PrepError as error:
        return [*problems, str(error)], {}, []
    problems += _check_counts(split, metadata, tfds_lengths)
    lengths, index = metadata["shard_lengths"], None
    try:
        index = reading.read_index(split, len(lengths))
    except PrepError as error:
        problems.append(str(error))
    paths = [split.shard_path(shard, len(lengths)) for shard in range(len(lengths))]
    for path in sorted({*split.folder.glob(f"{split}.tfrecord*")} - {*paths}):
        if path.suffix != ".tmp":
            problems.append(f"{path}: is not one of the {len(lengths)} shards of {split}; delete it")
    firsts = np.cumsum([0, *lengths]).tolist()
    rows = [None] * len(lengths) if index is None else _rows(index, len(lengths))
    layers = tuple(layer["name"] for layer in metadata["layers"])
    num_classes = len(metadata.get("classes", []))
    shards = [
        Shard(path, first, length, its, layers, num_classes)
        for path, first, length, its in zip(paths, firsts, lengths, rows, strict=False)
    ]
    return problems, metadata, shards


def _rows(index: Int64[np.ndarray, "records 3"], num_shards: int) -> list[Int64[np.ndarray, "rows 2"]]:
    ends = np.searchsorted(index[:, 0], np.arange(num_shards), side="right")
    return [np.array(rows) for rows in np.split(index[:, 1:], ends)[:num_shards]]


def _check_counts(split: Split, metadata: dict[str, Any], tfds_lengths: dict[str, Any] | None) -> list[str]:
    """Compares the metadata with itself, with the TFDS files and with the lists beside it."""
    problems = []
    path, lengths, skipped = split.metadata_path, metadata["shard_lengths"], metadata["num_skipped"]
    if sum(lengths) != metadata["num_examples"]:
        problems.append(f"{path}: num_examples is {metadata['num_examples']}, but shard_lengths add to {sum(lengths)}")
    seen = sum(lengths) + skipped
    if metadata.get("num_images", seen) != seen:
        problems.append(f"{path}: num_images is {metadata['num_images']}, but {seen} were written or skipped")
    if tfds_lengths is not None and tfds_lengths.get(split.split) != lengths:
        says = "shardLengths differ from shard_lengths in" if split.split in tfds_lengths else "is missing, unlike in"
        problems.append(f"{split.folder / 'dataset_info.json'}: split {split.split!r}: {says} {path.name}")
    try:
        listed = sum(1 for _ in reading.skipped(split))
        if listed != skipped:
            problems.append(f"{split.skipped_path}: lists {listed} images, but num_skipped in {path.name} is {skipped}")
    except PrepError as error:
        problems.append(str(error))
    if "inputs_sha256" in metadata:  # other writers need not list the files that they read
        try:
            reading.check_inputs(split)
        except PrepError as error:
            problems.append(str(error))
    return problems


def _verdict(
    split: Split, problems: list[str], metadata: dict[str, Any], shards: list[Shard], found: Mapping[Path, Found]
) -> Verdict:
    """Adds up what was found in the shards of a split."""
    results = [found[shard.path] for shard in shards]
    across = _repeated(shards, results)
    if metadata and all(result.whole for result in results):
        num_bytes = sum(result.num_bytes for result in results)
        if num_bytes != metadata["num_bytes"]:
            across.append(
                f"{split.metadata_path}: num_bytes is {metadata['num_bytes']}, but the shards have {num_bytes}"
            )
        counts = [result.num_regions for result in results]
        if all(count is not None for count in counts):
            sums = np.array(counts, np.int64).reshape(len(counts), -1).sum(axis=0).tolist()
            for layer, count, said in zip(metadata["layers"], sums, metadata["num_regions"], strict=True):
                if count != said:
                    what = f"num_regions of layer {layer['name']!r} is {said}"
                    across.append(f"{split.metadata_path}: {what}, but the records have {count}")
    named = [*problems, *_cut(across, split.folder / str(split))]
    for shard, result in zip(shards, results, strict=True):
        named += _cut(result.problems, shard.path)
    num_problems = len(problems) + len(across) + sum(len(result.problems) for result in results)
    return Verdict(tuple(named), num_problems, "" if num_problems else _summary(split, metadata))


def _cut(lines: Sequence[str], where: Path) -> list[str]:
    more = [f"{where}: ... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return [*lines[:MOST_LINES], *more]


def _summary(split: Split, metadata: dict[str, Any]) -> str:
    layers = zip(metadata["layers"], metadata["num_regions"], strict=True)
    regions = ", ".join(f"{layer['name']} {count}" for layer, count in layers) or "no"
    shards = len(metadata["shard_lengths"])
    return (
        f"{split}: {metadata['num_examples']} images in {shards} shard{'s' if shards > 1 else ''}, "
        f"{metadata['num_skipped']} skipped, {regions} regions: all sound"
    )


def _repeated(shards: list[Shard], results: list[Found]) -> list[str]:
    """Records whose image_id an earlier record of the split has."""
    ids = np.concatenate([np.empty(0, np.uint64), *(result.ids for result in results)])
    numbers = np.concatenate([np.empty(0, np.int64), *(result.numbers for result in results)])
    owners = np.repeat(np.arange(len(results)), [len(result.ids) for result in results])
    order = np.argsort(ids, kind="stable")
    later = np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1
    pairs = sorted((order[place], order[place - 1]) for place in later.tolist())
    return [
        f"{shards[owners[one]].path}: record {numbers[one]}: has the image_id of record {numbers[other]} "
        f"({shards[owners[other]].path.name})"
        for one, other in pairs
    ]


def _check_all(shards: Sequence[Shard], workers: int) -> Iterator[tuple[Shard, Found]]:
    """Checks shards in `workers` processes, in this one if it is 1; yields each when it is done."""
    if workers == 1 or not shards:
        yield from ((shard, check_shard(shard)) for shard in shards)
        return
    context = multiprocessing.get_context("spawn")
    # Nothing is ever sent: the workers' end reads end-of-file when this process closes its end or dies.
    their_end, our_end = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(min(workers, len(shards)), context, _start_worker, (their_end,))
    try:
        # Workers inherit the mask: Ctrl-C reaches this process alone, which ends them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {executor.submit(check_shard, shard): shard for shard in shards}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        our_end.close()
        executor.shutdown(cancel_futures=True)
        their_end.close()


def _start_worker(their_end: Connection) -> None:
    def exit_with_parent():
        their_end.poll(None)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def check_shard(shard: Shard) -> Found:
    """Reads a shard from its first byte to its last and compares it with what the index and the metadata say."""
    return _ShardCheck(shard).run()


class _ShardCheck:
    def __init__(self, shard: Shard):
        self.shard = shard
        self.problems: list[str] = []
        self.frames: list[tuple[int, int]] = []
        self.not_read = 0  # frames that were passed over
        self.broken = False
        self.num_regions: Int64[np.ndarray, " layers"] | None = np.zeros(len(shard.layers), np.int64)
        self.ids: list[int] = []
        self.numbers: list[int] = []

    def run(self) -> Found:
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
        return Found(
            problems=tuple(self.problems),
            whole=not self.broken and len(self.frames) == self.shard.claimed,
            num_bytes=size,
            num_regions=None if self.num_regions is None else tuple(self.num_regions.tolist()),
            ids=np.array(self.ids, np.uint64),
            numbers=np.array(self.numbers, np.int64),
        )

    def _check_from(self, start: int, size: int) -> int | None:
        """Checks the frames from a byte on; returns where to go on behind a broken one, None at the end."""
        try:
            for offset, data in reading.frames(self.shard.path, start):
                number = self.shard.first + self.not_read + len(self.frames)
                self.frames.append((offset, len(data)))
                self._check_record(number, offset, data)
            return None
        except reading.BrokenFrame as error:
            self.broken = True
            place = self.not_read + len(self.frames)
            line = f"{self.shard.path}: record {self.shard.first + place} (byte {error.offset}): {error.what}"
            rows = self.shard.rows
            if rows is None:
                self.problems.append(f"{line}; what follows in the shard was not checked")
                return None
            later = np.flatnonzero(rows[:, 0] > error.offset)
            present = later[rows[later, 0] < size]
            gone = len(later) - len(present)
            self.problems.append(line + (f"; {gone} more records should follow it" if gone else ""))
            if not len(present):
                return None
            self.not_read = int(present[0]) - len(self.frames)
            return int(rows[present[0], 0])

    def _compare(self, frames: Int64[np.ndarray, "records 2"]) -> None:
        """Compares where the frames are with the index, and their number with the metadata."""
        shard, count = self.shard, len(frames)
        says = {"metadata": shard.claimed} | ({} if shard.rows is None else {"index": len(shard.rows)})
        for number in sorted({said for said in says.values() if said != count}):
            who = " and the ".join(name for name, said in says.items() if said == number)
            self.problems.append(f"{shard.path}: holds {count} records, not {number} as the {who} would have it")
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
            self.problems.append(f"{where}): {reading.one_line(error)}")
            self.num_regions = None
            return
        self.ids.append(int.from_bytes(hashlib.blake2b(record.image_id.encode(), digest_size=8).digest(), "little"))
        self.numbers.append(number)
        what = [*_image_problems(record, data)]
        counts, region_problems = _count_regions(record, self.shard.layers)
        what += region_problems
        if not -1 <= record.label < (self.shard.num_classes or np.inf):
            what.append(f"label {record.label} is not -1 and none of the dataset's {self.shard.num_classes} classes")
        self.problems += [f"{where}, {record.image_id!r}): {one}" for one in what]
        if region_problems:
            self.num_regions = None
        if self.num_regions is not None:
            self.num_regions += counts


def _image_problems(record: records.Record, data: bytes) -> Iterator[str]:
    stated = reading.stated_size(data)
    if stated != (record.height, record.width):
        of_maps = f"{record.height}x{record.width} in regions/shape"
        yield f"height and width are {stated[0]}x{stated[1]}, but {of_maps}"
    try:
        height, width = records.decode_image(record.image).shape[:2]
    except ValueError as error:
        yield f"the image does not decode: {reading.one_line(error)}"
        return
    if (height, width) != stated:
        yield f"the image is {height}x{width} (height x width), not {stated[0]}x{stated[1]} as the record says"


def _count_regions(record: records.Record, layers: Sequence[str]) -> tuple[Int64[np.ndarray, " layers"], list[str]]:
    """Regions in each layer, which hold where there are no problems; and the problems."""
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
        return counts, [*problems, reading.one_line(error).removeprefix(f"record {record.image_id}: ")]
    for number, (one, layer, said) in enumerate(zip(maps, of_maps, record.num_regions, strict=True)):
        highest, gaps = _labels(one)
        counts[layer] += highest
        which = f"label map {number} (layer {layers[layer]!r})"
        if len(gaps):
            some = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
            problems.append(f"{which}: has labels up to {highest}, but no pixel of {some}")
        elif highest != said:
            problems.append(f"{which}: has {highest} regions, but num_regions says {said}")
    return counts, problems


def _labels(label_map: UInt16[np.ndarray, "height width"]) -> tuple[int, Int64[np.ndarray, " gaps"]]:
    """The highest label, and those below it that no pixel has."""
    counts = np.bincount(label_map.reshape(-1), minlength=1)
    return len(counts) - 1, np.flatnonzero(counts[1:] == 0) + 1


def main() -> int:
    """Runs the command; returns its exit status."""
    flags = _parser().parse_args()
    report = progress.reporter()
    try:
        verdicts = verify(flags.dataset, flags.split, workers=flags.workers, report=report)
    except KeyboardInterrupt:
        report.close()
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (PrepError, OSError) as error:
        report.close()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        report.close()
        print("error: a worker process died, perhaps for want of memory; try fewer --workers", file=sys.stderr)
        return 2
    report.close()
    for verdict in verdicts:
        for line in (*verdict.problems, *filter(None, (verdict.summary,))):
            print(line)
    num_problems = sum(verdict.num_problems for verdict in verdicts)
    if num_problems:
        print(f"{flags.dataset}: {num_problems} problem{'s' if num_problems > 1 else ''}")
    return 1 if num_problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.verify",
        description="Reads a whole dataset and prints a line for everything that is broken. Exits with 0 if it is "
        "sound, 1 if it is broken, 2 if it could not be checked.",
    )
    add = parser.add_argument
    cpus = len(os.sched_getaffinity(0))
    add("dataset", type=Path, metavar="DATASET", help="folder of the dataset")
    add("--split", help="the split to check (default: all of them)")
    add("--workers", type=_workers, default=cpus, metavar="N", help="number of processes (default: %(default)s)")
    return parser


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

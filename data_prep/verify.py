"""Checks a whole dataset and reports what is broken: `python -m data_prep.verify DATASET`.

Prints a line for each problem. Exits with status 0 if the dataset is sound, 1 if it is broken, and 2 if it could not be
checked: wrong usage, no dataset in the folder, or a worker process that died.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_prep import command
from data_prep.checks.metadata import check_split_files, check_tfds
from data_prep.checks.shard import ExpectedShard, ShardContents, check_shard
from data_prep.dataset.split import Split, choose_splits, find_splits
from data_prep.engines import local
from data_prep.engines.retry import Failure
from data_prep.errors import PrepError
from data_prep.progress import Bar, Lines
from data_prep.storage.paths import AnyPath, parse_path

MOST_LINES = 20  # for each shard, and for the problems found across shards


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of checking one split, or the files that all splits share.

    Attributes:
      problems: one line per problem; beyond `MOST_LINES` for a shard, a line that counts the others.
      num_problems: number of all problems.
      summary: contents of a sound split, in one line.
    """

    problems: tuple[str, ...]
    num_problems: int
    summary: str = ""


def verify(
    folder: AnyPath,
    split: str | None = None,
    *,
    workers: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Verdict]:
    """Checks a dataset.

    Args:
      folder: the dataset's folder.
      split: name of the split to check; None for all splits.
      workers: number of processes.
      report: called with the number of records checked and the total number.

    Returns:
      The verdict on the files that all splits share, then one on each split, in order.

    Raises:
      PrepError: there is no dataset or no such split, or a worker that checks a shard dies.
    """
    splits = find_splits(folder)
    chosen = splits if split is None else choose_splits(splits, split)
    shared, tfds_lengths = check_tfds(folder, splits)
    if split is None:
        shared += [f"{path}: left over from a job that was killed; delete it" for path in sorted(folder.glob("*.tmp"))]
    beside = [check_split_files(one, tfds_lengths) for one in chosen]
    shards = [shard for _, _, its in beside for shard in its]
    total, found = sum(shard.num_records for shard in shards), {}
    report(0, total)
    for shard, result in local.run(check_shard, shards, workers, lambda done: report(min(done, total), total)):
        if isinstance(result, Failure):
            raise PrepError(f"{shard.path}: {result.reason}")
        found[shard.path] = result
    report(total, total)
    return [
        Verdict(tuple(shared), len(shared)),
        *(_verdict(one, *its, found) for one, its in zip(chosen, beside, strict=True)),
    ]


def _verdict(
    split: Split,
    problems: list[str],
    metadata: dict[str, Any],
    shards: list[ExpectedShard],
    found: Mapping[AnyPath, ShardContents],
) -> Verdict:
    """Combines the problems of a split and the results of its shards."""
    results = [found[shard.path] for shard in shards]
    # Names in tars and ids of TFDS datasets may repeat; names of a folder's files cannot.
    across = [] if metadata.get("images") in ("tfds", "webdataset") else _repeated(shards, results)
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


def _cut(lines: Sequence[str], where: AnyPath) -> list[str]:
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


def _repeated(shards: list[ExpectedShard], results: list[ShardContents]) -> list[str]:
    """Returns a line for each record that has the image_id of an earlier record of the split."""
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


def main() -> int:
    """Runs the command; returns its exit status."""
    flags = _parser().parse_args()

    def work(report: Bar | Lines) -> tuple[list[str], int]:
        verdicts = verify(flags.dataset, flags.split, workers=flags.workers, report=report)
        lines = [line for verdict in verdicts for line in (*verdict.problems, verdict.summary) if line]
        num_problems = sum(verdict.num_problems for verdict in verdicts)
        if not num_problems:
            return lines, 0
        return [*lines, f"{flags.dataset}: {num_problems} problem{'s' if num_problems > 1 else ''}"], 1

    return command.run(work, failed=2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.verify",
        description="Reads a whole dataset and prints a line for each problem. Exits with 0 if it is "
        "sound, 1 if it is broken, 2 if it could not be checked.",
    )
    add = parser.add_argument
    cpus = len(os.sched_getaffinity(0))
    add("dataset", type=parse_path, metavar="DATASET", help="folder of the dataset")
    add("--split", help="the split to check (default: all of them)")
    add("--workers", type=_workers, default=cpus, metavar="N", help="number of processes (default: %(default)s)")
    return parser


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

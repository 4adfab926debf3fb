"""Checks of all files except the shards: TFDS files, metadata, index and lists, compared with each other."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from data_prep.checks.shard import ExpectedShard
from data_prep.dataset import inputs, records
from data_prep.dataset.index import read_index
from data_prep.dataset.metadata import read_complete_metadata, read_skipped
from data_prep.dataset.split import Split
from data_prep.errors import PrepError
from data_prep.storage.paths import AnyPath

_FEATURES = {field.partition("/")[0] for field in records.FIELDS if field not in records.OPTIONAL_FIELDS}


def check_tfds(folder: AnyPath, splits: Sequence[Split]) -> tuple[list[str], dict[str, Any] | None]:
    """Checks the files that all splits share; returns their problems, and the shard lengths of each split in them."""
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
            problems.append(f"{path}: the dataset's name is {info['name']!r} there, but {names[0]!r} in the file names")
    except (OSError, ValueError, LookupError, TypeError) as error:
        return [*problems, _unreadable(path, error)], None
    gone = sorted(lengths.keys() - {split.split for split in splits})
    return [*problems, *(f"{path}: split {name!r} has no files here; copy them again" for name in gone)], lengths


def _unreadable(path: AnyPath, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: cannot be read ({error.strerror}); copy it again"
    return f"{path}: is not what TFDS writes ({type(error).__name__}: {error}); copy it again"


def check_split_files(
    split: Split, tfds_lengths: dict[str, Any] | None
) -> tuple[list[str], dict[str, Any], list[ExpectedShard]]:
    """Checks everything about a split except the contents of its shards.

    Returns:
      Problems, the metadata (empty if it cannot be used), and the shards to check.
    """
    if split.unfinished_path.exists() and not split.metadata_path.exists():
        again = "run the same data_prep command again to finish it"
        return [f"{split.unfinished_path}: the job that prepares {split} has not finished; {again}"], {}, []
    problems = []
    if split.unfinished_path.exists():
        problems.append(f"{split.unfinished_path}: left over from a job, though {split} is finished; delete it")
    try:
        metadata = read_complete_metadata(split)
    except PrepError as error:
        return [*problems, str(error)], {}, []
    problems += _check_counts(split, metadata, tfds_lengths)
    lengths, index = metadata["shard_lengths"], None
    try:
        index = read_index(split, len(lengths))
    except PrepError as error:
        problems.append(str(error))
    paths = [split.shard_path(shard, len(lengths)) for shard in range(len(lengths))]
    for path in sorted({*split.folder.glob(f"{split}.tfrecord*")} - {*paths}):
        if path.suffix != ".tmp":
            problems.append(f"{path}: is not one of the {len(lengths)} shards of {split}; delete it")
    firsts = np.cumsum([0, *lengths]).tolist()
    rows = [None] * len(lengths) if index is None else _rows(index, len(lengths))
    layers = tuple(layer["name"] for layer in metadata["layers"])
    semantic = frozenset(layer["name"] for layer in metadata["layers"] if layer.get("method") == "semantic")
    num_classes = len(metadata.get("classes", []))
    shards = [
        ExpectedShard(path, first, length, its, layers, semantic, num_classes)
        for path, first, length, its in zip(paths, firsts, lengths, rows, strict=False)
    ]
    return problems, metadata, shards


def _rows(index: Int64[np.ndarray, "records 3"], num_shards: int) -> list[Int64[np.ndarray, "rows 2"]]:
    ends = np.searchsorted(index[:, 0], np.arange(num_shards), side="right")
    return [np.array(rows) for rows in np.split(index[:, 1:], ends)[:num_shards]]


def _check_counts(split: Split, metadata: dict[str, Any], tfds_lengths: dict[str, Any] | None) -> list[str]:
    """Compares the metadata with itself, with the TFDS files and with the split's lists."""
    problems = []
    path, lengths, skipped = split.metadata_path, metadata["shard_lengths"], metadata["num_skipped"]
    if sum(lengths) != metadata["num_examples"]:
        problems.append(
            f"{path}: num_examples is {metadata['num_examples']}, but shard_lengths add up to {sum(lengths)}"
        )
    seen = sum(lengths) + skipped
    if metadata.get("num_images", seen) != seen:
        problems.append(f"{path}: num_images is {metadata['num_images']}, but {seen} were written or skipped")
    if tfds_lengths is not None and tfds_lengths.get(split.split) != lengths:
        says = "shardLengths differ from shard_lengths in" if split.split in tfds_lengths else "is missing, unlike in"
        problems.append(f"{split.folder / 'dataset_info.json'}: split {split.split!r}: {says} {path.name}")
    try:
        listed = sum(1 for _ in read_skipped(split))
        if listed != skipped:
            problems.append(f"{split.skipped_path}: lists {listed} images, but num_skipped in {path.name} is {skipped}")
    except PrepError as error:
        problems.append(str(error))
    if "inputs_sha256" in metadata:  # other writers need not list their input files
        try:
            inputs.check(split.inputs_path)
        except PrepError as error:
            problems.append(str(error))
    return problems

"""Writer of the files that turn a folder of shards into a dataset: index, skipped images, TFDS files, metadata."""

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from data_prep.dataset import inputs
from data_prep.dataset.inputs import Input
from data_prep.dataset.metadata import finished_metadata
from data_prep.dataset.shard_report import Report
from data_prep.dataset.split import Split
from data_prep.errors import PrepError
from data_prep.storage.atomic_write import atomic_folder, atomic_write
from data_prep.storage.paths import AnyPath, file_lock, file_statuses


def missing_part(split: Split, metadata: dict[str, Any]) -> str | None:
    """Describes what a finished split lacks, a missing file or the bytes of truncated shards; None if nothing."""
    shards = len(metadata["shard_lengths"])
    beside = [split.index_path, split.skipped_path, split.inputs_path]
    names = [path.name for path in (*beside, *(split.shard_path(shard, shards) for shard in range(shards)))]
    statuses = list(file_statuses(split.folder, names))
    gone = next((name for name, status in zip(names, statuses, strict=True) if status is None), None)
    if gone is not None:
        return f"{gone} is missing"
    num_bytes = sum(status.st_size for status in statuses[len(beside) :])
    if num_bytes != metadata["num_bytes"]:
        return f"its shards have {num_bytes} bytes instead of {metadata['num_bytes']}"
    return None


def finish(
    place: Split,
    metadata: dict[str, Any],
    files_read: Iterable[Input],
    num_examples: int,
    reports: Iterable[Report],
) -> dict[str, Any]:
    """Writes all files of a split except the shards, the metadata last; holds one report in memory at a time.

    Args:
      place: the split's paths; temporary files go to its `unfinished_path`.
      metadata: name, split, layers and everything else that describes how the split was created.
      files_read: the split's input files.
      num_examples: number of records in all shards.
      reports: the report of each shard, in order.

    Returns:
      The metadata as written: with shard_lengths, num_examples, num_skipped, num_bytes and, for each layer,
      num_regions.
    """
    output, scratch = place.folder, place.unfinished_path
    metadata = metadata | {
        "shard_lengths": [],
        "num_examples": num_examples,
        "num_skipped": 0,
        "num_bytes": 0,
        "num_regions": [0] * len(metadata["layers"]),
    }
    with (
        atomic_write(place.index_path, scratch) as index,
        atomic_write(place.skipped_path, scratch) as skipped,
    ):
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int64)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(index, header | {"shape": (num_examples, 3)})
        for shard, report in enumerate(reports):
            rows = np.stack([np.full(len(report.offsets), shard), report.offsets, report.lengths], axis=1)
            index.write(rows.astype(np.int64).tobytes())
            skipped.writelines(json.dumps(entry).encode() + b"\n" for entry in report.skipped)
            metadata["shard_lengths"].append(len(report.offsets))
            metadata["num_skipped"] += len(report.skipped)
            metadata["num_bytes"] += report.num_bytes
            metadata["num_regions"] = [
                sum(pair) for pair in zip(metadata["num_regions"], report.num_regions, strict=True)
            ]
    with atomic_write(place.inputs_path, scratch) as out:
        inputs.write(files_read, out)
    with _folder_lock(output):
        others = finished_splits(output, besides=place)
        foreign = next((other["name"] for other in others if other["name"] != place.name), None)
        if foreign is not None:
            raise PrepError(
                f"{output} has received the dataset {foreign!r} since this job began; give another --output"
            )
        write_tfds(output, scratch, [*others, metadata])
        with atomic_write(place.metadata_path, scratch) as out:
            out.write(json.dumps(metadata, indent=2).encode() + b"\n")
    return metadata


def rewrite_tfds(place: Split) -> None:
    """Writes features.json and dataset_info.json for the finished splits; deletes both files if there are none."""
    output, scratch = place.folder, place.unfinished_path
    with _folder_lock(output):
        splits = finished_splits(output)
        if splits:
            write_tfds(output, scratch, splits)
        else:
            for name in ("features.json", "dataset_info.json"):
                (output / name).unlink(missing_ok=True)


def _folder_lock(output: AnyPath) -> AbstractContextManager[None]:
    """Locks the dataset's folder, so that jobs that finish at the same time write the shared files in turn."""
    return file_lock(output, wait=True)


def finished_splits(output: AnyPath, besides: Split | None = None) -> list[dict[str, Any]]:
    """Returns the metadata of every finished split in a dataset's folder, except `besides`.

    Raises:
      PrepError: the metadata of a split is corrupt.
    """
    matches = [re.fullmatch(r"(\w+)-(\w+)\.json", path.name) for path in output.glob("*-*.json")]
    splits = sorted(Split(output, *match.groups()) for match in matches if match is not None)
    metadata = [finished_metadata(split) for split in splits if split != besides]
    return [one for one in metadata if one is not None]


def write_tfds(output: AnyPath, scratch: AnyPath, splits: Sequence[dict[str, Any]]) -> None:
    """Writes features.json and dataset_info.json for the given splits; needs no TensorFlow."""
    import tensorflow_datasets as tfds  # imported here: workers need not wait for it

    # TFDS stores a tensor with several unknown dimensions as regions/shape and regions/value.
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "image_id": tfds.features.Text(),
            "height": np.int64,
            "width": np.int64,
            "regions": tfds.features.Tensor(shape=(None, None, None), dtype=np.uint16, encoding="zlib"),
            "num_regions": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "region_layers": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "label": np.int64,
        }
    )
    name = splits[0]["name"]
    identity = tfds.core.DatasetIdentity(name=name, version="1.0.0", data_dir=str(output), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    template = tfds.core.ShardedFileTemplate(
        data_dir=str(output),
        dataset_name=name,
        filetype_suffix="tfrecord",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    info.set_file_format("tfrecord")
    info.set_splits(
        tfds.core.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split["split"],
                    shard_lengths=split["shard_lengths"],
                    num_bytes=split["num_bytes"],
                    filename_template=template,
                )
                for split in sorted(splits, key=lambda split: split["split"])
            ]
        )
    )
    with atomic_folder(output, scratch) as written:
        info.write_to_directory(written)

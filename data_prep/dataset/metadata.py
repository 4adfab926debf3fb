"""The metadata of a split, and the list of its skipped images."""

import json
from collections.abc import Iterator
from typing import Any

from data_prep.dataset.json_lines import read_json_lines
from data_prep.dataset.split import Split
from data_prep.errors import DatasetError, one_line

REMEDY = "restore it from a copy, or run data_prep again with --overwrite"


def read_metadata(split: Split) -> dict[str, Any]:
    """Reads a finished split's metadata, and checks the keys that every reader needs: layers and shard_lengths.

    `metadata_problems` checks everything else.

    Raises:
      DatasetError: the file is missing, cannot be parsed or lacks a key.
    """
    path = split.metadata_path
    try:
        metadata = json.loads(path.read_bytes())
        if not isinstance(metadata, dict):
            raise ValueError("not a JSON object")
        missing = {"layers", "shard_lengths"} - metadata.keys()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path}: missing, so {split} is unfinished; run the same data_prep command again"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: the metadata cannot be read ({one_line(error)}); {REMEDY}") from error
    if missing:
        raise DatasetError(f"{path}: the metadata lacks {', '.join(sorted(missing))}; {REMEDY}")
    return metadata


def read_complete_metadata(split: Split) -> dict[str, Any]:
    """Reads a finished split's metadata, and checks every key that data_prep writes.

    Raises:
      DatasetError: as `read_metadata`, or `metadata_problems` finds a problem.
    """
    metadata = read_metadata(split)
    problems = metadata_problems(split, metadata)
    if problems:
        raise DatasetError(f"{split.metadata_path}: {'; '.join(problems)}; {REMEDY}")
    return metadata


def finished_metadata(split: Split) -> dict[str, Any] | None:
    """Reads a split's metadata; returns None if the split is not finished.

    Raises:
      DatasetError: as for `read_metadata`, or the metadata belongs to another split.
    """
    if not split.metadata_path.exists():
        return None
    metadata = read_metadata(split)
    identity = metadata.get("name"), metadata.get("split")
    if identity != (split.name, split.split):
        what = f"it belongs to the split {'-'.join(map(str, identity))}"
        raise DatasetError(f"{split.metadata_path}: the metadata cannot be used ({what}); {REMEDY}")
    return metadata


def metadata_problems(split: Split, metadata: object) -> list[str]:
    """Returns a description of each key that is missing from the metadata or has a value of the wrong kind."""
    if not isinstance(metadata, dict):
        return ["not a JSON object"]
    problems = []
    for key, expected in (("name", split.name), ("split", split.split)):
        if metadata.get(key) != expected:
            problems.append(f"{key} is {metadata.get(key)!r}, not {expected!r} as in the file name")
    for key in ("num_examples", "num_skipped", "num_bytes"):
        if not _is_count(metadata.get(key)):
            problems.append(f"{key} is {metadata.get(key)!r}, not a count")
    for key in ("shard_lengths", "num_regions"):
        if not (isinstance(metadata.get(key), list) and all(map(_is_count, metadata[key]))):
            problems.append(f"{key} is not a list of counts")
    layers = metadata.get("layers")
    if not (isinstance(layers, list) and all(isinstance(one, dict) and _is_text(one.get("name")) for one in layers)):
        problems.append("layers is not a list of named layers")
    elif len({layer["name"] for layer in layers}) < len(layers):
        problems.append("two layers have the same name")
    elif isinstance(metadata.get("num_regions"), list) and len(metadata["num_regions"]) != len(layers):
        problems.append(f"num_regions has {len(metadata['num_regions'])} counts for {len(layers)} layers")
    classes = metadata.get("classes", [])
    if not (isinstance(classes, list) and all(map(_is_text, classes))):
        problems.append("classes is not a list of names")
    return problems


def read_skipped(split: Split) -> Iterator[dict[str, str]]:
    """Reads the list of skipped images: image_id and reason of each.

    Raises:
      DatasetError: the file is missing, or a line is malformed; names the first such line.
    """

    def is_entry(line: object) -> bool:
        return isinstance(line, dict) and _is_text(line.get("image_id")) and _is_text(line.get("reason"))

    return read_json_lines(split.skipped_path, is_entry, "an object with image_id and reason")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)

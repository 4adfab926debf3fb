"""A finished dataset, read back to be checked or shown: its splits, what lies beside their shards, their records."""

import dataclasses
import json
import os
import re
import struct
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from data_prep import files
from data_prep.errors import PrepError, one_line
from data_prep.files import AnyPath
from rmae_jax import records, tfrecord

_SPLIT_FILE = re.compile(
    r"(\w+)-(\w+)\.(?:json|index\.npy|skipped\.jsonl|inputs\.jsonl|tfrecord-.*)|\.(\w+)-(\w+)\.unfinished"
)


class BrokenFrame(ValueError):
    """A frame that cannot be read.

    Attributes:
      offset: where the frame begins, in bytes.
    """

    def __init__(self, offset: int, what: str):
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


@dataclasses.dataclass(frozen=True, order=True)
class Split:
    """One split of a dataset: where its files are, see `rmae_jax.tfrecord`.

    Attributes:
      folder: of the dataset.
      name: of the dataset.
      split: of the dataset.
    """

    folder: AnyPath
    name: str
    split: str

    def __str__(self) -> str:
        return f"{self.name}-{self.split}"

    @property
    def metadata_path(self) -> AnyPath:
        """Metadata; written last, so that a split that has it is finished."""
        return self.folder / tfrecord.metadata_name(self.name, self.split)

    @property
    def index_path(self) -> AnyPath:
        """Offset index."""
        return self.folder / tfrecord.index_name(self.name, self.split)

    @property
    def skipped_path(self) -> AnyPath:
        """Report of the images left out."""
        return self.folder / tfrecord.skipped_name(self.name, self.split)

    @property
    def inputs_path(self) -> AnyPath:
        """List of the files that the split was made from."""
        return self.folder / tfrecord.inputs_name(self.name, self.split)

    @property
    def unfinished_path(self) -> AnyPath:
        """Folder of a job that has not ended."""
        return self.folder / f".{self}.unfinished"

    def shard_files(self) -> list[AnyPath]:
        """The shards that are there, of whatever number."""
        return sorted(self.folder.glob(f"{self}.tfrecord-*"))

    def shard_path(self, shard: int, num_shards: int) -> AnyPath:
        """One shard."""
        return self.folder / tfrecord.shard_name(self.name, self.split, shard, num_shards)


def find_splits(folder: AnyPath) -> list[Split]:
    """Every split that the folder has a file of, finished or not, in order.

    Raises:
      PrepError: there is no such folder, or nothing of a dataset in it.
    """
    if not folder.is_dir():
        raise PrepError(f"{folder}: no such folder; give the folder of a dataset")
    found = {match.groups() for path in folder.iterdir() if (match := _SPLIT_FILE.fullmatch(path.name))}
    if not found:
        raise PrepError(f"{folder}: no dataset here; make one with `python -m data_prep --images=DIR --output=DATASET`")
    return sorted({Split(folder, one or other, split or its) for one, split, other, its in found})


def choose(splits: list[Split], split: str) -> list[Split]:
    """Those of one name: one, or several if the folder holds several datasets.

    Raises:
      PrepError: there is none; lists those that there are.
    """
    chosen = [candidate for candidate in splits if candidate.split == split]
    if not chosen:
        present = ", ".join(sorted({candidate.split for candidate in splits}))
        raise PrepError(f"{splits[0].folder}: no split {split!r} here, only {present}")
    return chosen


def read_metadata(split: Split) -> dict[str, Any]:
    """A finished split's metadata, complete as to what `metadata_problems` looks at.

    Raises:
      PrepError: the file is missing, damaged or incomplete.
    """
    try:
        metadata = json.loads(split.metadata_path.read_bytes())
    except FileNotFoundError as error:
        raise PrepError(
            f"{split.metadata_path}: missing, so {split} is unfinished; give its data_prep command again"
        ) from error
    except (OSError, ValueError) as error:
        raise PrepError(f"{split.metadata_path}: cannot be read ({one_line(error)}); copy it again") from error
    problems = metadata_problems(split, metadata)
    if problems:
        raise PrepError(f"{split.metadata_path}: {'; '.join(problems)}; copy it again")
    return metadata


def metadata_problems(split: Split, metadata: object) -> list[str]:
    """What is missing from metadata, or is of the wrong kind."""
    if not isinstance(metadata, dict):
        return ["not a JSON object"]
    problems = []
    for key, expected in (("name", split.name), ("split", split.split)):
        if metadata.get(key) != expected:
            problems.append(f"{key} is {metadata.get(key)!r}, not {expected!r} as the file's name says")
    for key in ("num_examples", "num_skipped", "num_bytes"):
        if not _is_count(metadata.get(key)):
            problems.append(f"{key} is {metadata.get(key)!r}, not a count")
    for key in ("shard_lengths", "num_regions"):
        if not (isinstance(metadata.get(key), list) and all(map(_is_count, metadata[key]))):
            problems.append(f"{key} is not a list of counts")
    layers = metadata.get("layers")
    if not (isinstance(layers, list) and all(isinstance(one, dict) and _is_text(one.get("name")) for one in layers)):
        problems.append("layers is not a list of layers with a name each")
    elif len({layer["name"] for layer in layers}) < len(layers):
        problems.append("layers of the same name")
    elif isinstance(metadata.get("num_regions"), list) and len(metadata["num_regions"]) != len(layers):
        problems.append(f"num_regions has {len(metadata['num_regions'])} counts for {len(layers)} layers")
    classes = metadata.get("classes", [])
    if not (isinstance(classes, list) and all(map(_is_text, classes))):
        problems.append("classes is not a list of names")
    return problems


def read_index(split: Split, num_shards: int) -> Int64[np.ndarray, "records 3"]:
    """Maps the offset index, or reads it from an object store.

    Its columns are shard, offset of the frame and length of the data, both in bytes, of each record.

    Raises:
      PrepError: the file is missing or damaged, or its rows are not in the order of the shards.
    """
    try:
        if isinstance(split.index_path, Path):
            index = np.load(split.index_path, mmap_mode="r", allow_pickle=False)
        else:
            with split.index_path.open("rb") as file:
                index = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise PrepError(f"{split.index_path}: missing; copy it again") from error
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # of its header
        raise PrepError(f"{split.index_path}: cannot be read ({one_line(error)}); copy it again") from error
    if index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 3:
        raise PrepError(f"{split.index_path}: an index is int64 (records, 3), not {index.dtype} {index.shape}")
    impossible = (index < 0).any(axis=1) | (index[:, 0] >= num_shards)
    impossible[1:] |= np.diff(index[:, 0]) < 0
    if impossible.any():
        row = int(impossible.argmax())
        shard, offset, length = index[row].tolist()
        raise PrepError(
            f"{split.index_path}: record {row}: shard {shard}, byte {offset}, {length} bytes is out of order, or "
            f"outside the {num_shards} shards; copy it again"
        )
    return index


def skipped(split: Split) -> Iterator[dict[str, str]]:
    """Reads the list of images left out: image_id and reason of each.

    Raises:
      PrepError: the file is missing, or a line is not what it should be; names the first such line.
    """

    def is_entry(line: object) -> bool:
        return isinstance(line, dict) and _is_text(line.get("image_id")) and _is_text(line.get("reason"))

    return _lines(split.skipped_path, is_entry, "an object with image_id and reason")


def check_inputs(split: Split) -> None:
    """Reads the list of the files that the split was made from.

    Raises:
      PrepError: the file is missing, or a line is not what it should be; names the first such line.
    """

    def is_entry(line: object) -> bool:
        return isinstance(line, list) and [type(value) for value in line] == [str, int, int]

    for _ in _lines(split.inputs_path, is_entry, "a list [name, bytes, time of change]"):
        pass


def read_record(split: Split, num_shards: int, index: Int64[np.ndarray, "records 3"], number: int) -> records.Record:
    """Reads one record and checks its crc.

    Raises:
      PrepError: the record or its shard is damaged or missing; names both.
    """
    shard, offset, length = index[number].tolist()
    path = split.shard_path(shard, num_shards)
    try:
        return records.decode(tfrecord.unframe(files.read_range(path, offset, length + tfrecord.FRAMING_BYTES)))
    except (OSError, ValueError) as error:
        raise PrepError(f"{path}: record {number} (byte {offset}): {one_line(error)}; copy the shard again") from error


def stated_size(data: bytes) -> tuple[int, int]:
    """Height and width as the features of these names state them: `records.decode` reads regions/shape.

    Args:
      data: of a record that can be decoded.
    """
    feature = records.Example.FromString(data).features.feature
    return tuple((*feature[side].int64_list.value, -1)[0] for side in ("height", "width"))


def frames(path: AnyPath, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Reads the frames of a shard one after the other, from a frame's first byte on.

    Yields:
      offset of the frame, in bytes, and its data.

    Raises:
      BrokenFrame: a frame is cut short, or a length or a crc does not match.
      OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        offset = file.seek(start)
        while offset < size:
            header = file.read(tfrecord.HEADER_BYTES)
            length = struct.unpack("<Q", header[:8])[0] if len(header) >= 8 else 0
            needed = length + tfrecord.FRAMING_BYTES
            if needed > size - offset:
                raise BrokenFrame(offset, f"cut short, or its length is damaged: {size - offset} bytes of {needed}")
            try:
                data = tfrecord.unframe(header + file.read(needed - len(header)))
            except ValueError as error:
                raise BrokenFrame(offset, str(error)) from error
            yield offset, data
            offset += needed


def _lines(path: AnyPath, is_entry: Callable[[object], bool], what: str) -> Iterator[Any]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = None
                if not is_entry(entry):
                    raise PrepError(f"{path}: line {number} is not {what}; copy the file again")
                yield entry
    except OSError as error:
        raise PrepError(f"{path}: cannot be read ({error.strerror}); copy it again") from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)

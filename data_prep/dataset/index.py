"""The index of a split, and random access to its records."""

import tokenize
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from data_prep.dataset import records, tfrecord
from data_prep.dataset.split import Split
from data_prep.errors import DatasetError, one_line
from data_prep.storage.paths import read_range


def read_index(split: Split, num_shards: int) -> Int64[np.ndarray, "records 3"]:
    """Memory-maps the offset index, or reads it from an object store.

    Its columns are, for each record: the shard, the offset of the frame and the length of the data, both in bytes.

    Raises:
      DatasetError: the file is missing or corrupt, or its rows are not in the order of the shards.
    """
    try:
        if isinstance(split.index_path, Path):
            index = np.load(split.index_path, mmap_mode="r", allow_pickle=False)
        else:
            with split.index_path.open("rb") as file:
                index = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetError(f"{split.index_path}: missing; copy it again") from error
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:  # the last two: from its header
        raise DatasetError(f"{split.index_path}: cannot be read ({one_line(error)}); copy it again") from error
    if index.dtype != np.int64 or index.ndim != 2 or index.shape[1] != 3:
        raise DatasetError(f"{split.index_path}: the index must be int64 (records, 3), not {index.dtype} {index.shape}")
    impossible = (index < 0).any(axis=1) | (index[:, 0] >= num_shards)
    impossible[1:] |= np.diff(index[:, 0]) < 0
    if impossible.any():
        row = int(impossible.argmax())
        shard, offset, length = index[row].tolist()
        raise DatasetError(
            f"{split.index_path}: record {row}: shard {shard}, byte {offset}, {length} bytes is out of order, or "
            f"outside the {num_shards} shards; copy it again"
        )
    return index


def read_record(split: Split, num_shards: int, index: Int64[np.ndarray, "records 3"], number: int) -> records.Record:
    """Reads one record and checks its crc.

    Raises:
      DatasetError: the record or its shard is corrupt or missing; the message names both.
    """
    shard, offset, length = index[number].tolist()
    path = split.shard_path(shard, num_shards)
    try:
        return records.decode(tfrecord.unframe(read_range(path, offset, length + tfrecord.FRAMING_BYTES)))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: record {number} (byte {offset}): {one_line(error)}; copy the shard again"
        ) from error

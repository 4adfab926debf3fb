"""Random access to the records of a dataset's split."""

import json
import operator
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import google_crc32c
import numpy as np
from jaxtyping import Int64

from data_prep.dataset import records, tfrecord
from data_prep.dataset.index import read_index
from data_prep.dataset.metadata import REMEDY, read_metadata
from data_prep.dataset.split import choose_split
from data_prep.errors import DatasetError, RecordError

# Only this many shards stay open; others are opened for each read. Processes are commonly limited to 1024 open files.
_MAX_OPEN_SHARDS = 512


class TFRecordSource:
    """The records of one split of a dataset that data_prep wrote.

    `source[i]` reads one record by its offset and checks its CRC. A source can be shared between threads and pickled;
    the unpickled copy opens the files again.

    Attributes:
      folder: the dataset's folder.
      name, split: the dataset's name and the split, together the stem of the file names.
      metadata: the content of NAME-SPLIT.json.
      region_layers: names of the label-map layers to use; all if empty.
      layer_ids: indices of those layers, as in a record's region_layers.
    """

    def __init__(self, folder: str | os.PathLike, split: str = "train", region_layers: Sequence[str] = ()):
        """Opens a split and checks that its index and shards match; reads no record.

        Args:
          folder: the dataset's folder.
          split: the name of the split.
          region_layers: names of the label-map layers to use; all of them if empty.

        Raises:
          DatasetError: the folder, the split, the index, a shard or a layer is missing, or they contradict each other.
        """
        self.folder, self.split = Path(folder), split
        self._split = choose_split(self.folder, split)
        self.name, self.metadata = self._split.name, read_metadata(self._split)
        self.region_layers = tuple(region_layers)
        self.layer_ids = self._find_layers()
        self._index = self._read_index()
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, record: SupportsIndex) -> records.Record:
        """Reads one record.

        Raises:
          IndexError: there is no such record.
          RecordError: the record is corrupt; the message names the shard file and the record.
          DatasetError: the shard cannot be read or no longer exists; the message names the same.
        """
        record = operator.index(record)
        if not 0 <= record < len(self):
            raise IndexError(f"{self} has records 0 to {len(self) - 1}, no record {record}")
        shard, offset, length = self._index[record].tolist()
        try:
            return records.decode(tfrecord.unframe(self._read(shard, offset, length)))
        except (OSError, ValueError) as error:
            # An error of the file system may be temporary; only corrupt bytes are a property of the record.
            kind = RecordError if isinstance(error, ValueError) else DatasetError
            raise kind(f"{self.where(record)}: {error}; restore the shard, or run data_prep again") from error

    def __repr__(self) -> str:
        return f"TFRecordSource({str(self.folder)!r}, {self.split!r})"

    def __getstate__(self):
        return {"folder": self.folder, "split": self.split, "region_layers": self.region_layers}

    def __setstate__(self, state):
        self.__init__(**state)

    def __del__(self):
        for descriptor in getattr(self, "_descriptors", {}).values():
            os.close(descriptor)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that identify the metadata and every record's position and size."""
        crc = google_crc32c.Checksum(json.dumps(self.metadata, sort_keys=True).encode())
        crc.update(np.ascontiguousarray(self._index))
        return crc.hexdigest().decode()

    @property
    def num_layers(self) -> int:
        """The number of named layers; 0 in a dataset without regions."""
        return len(self.metadata["layers"])

    def where(self, record: int) -> str:
        """Describes a record for an error message: its shard file, its number in the split, and its byte offset."""
        shard, offset, _ = self._index[record].tolist()
        return f"{self._shard_path(shard)}: record {record} of split {self.split!r} (byte {offset})"

    def _find_layers(self) -> list[int]:
        if not self.region_layers:
            return list(range(self.num_layers))
        names = [layer["name"] for layer in self.metadata["layers"]]
        unknown = [name for name in self.region_layers if name not in names]
        if unknown:
            present = f"layers {', '.join(names)}" if names else "no region layers"
            raise DatasetError(
                f"{self.folder}: no region layer {', '.join(unknown)}; split {self.split!r} has {present}"
            )
        return [names.index(name) for name in self.region_layers]

    def _read(self, shard: int, offset: int, length: int) -> bytes:
        """Reads one frame; the result is shorter if the file ends within it."""
        size = length + tfrecord.FRAMING_BYTES
        if shard >= _MAX_OPEN_SHARDS:
            with open(self._shard_path(shard), "rb") as file:
                return os.pread(file.fileno(), size, offset)
        with self._lock:
            if shard not in self._descriptors:
                self._descriptors[shard] = os.open(self._shard_path(shard), os.O_RDONLY | os.O_CLOEXEC)
            descriptor = self._descriptors[shard]
        return os.pread(descriptor, size, offset)

    def _shard_path(self, shard: int) -> Path:
        return self._split.shard_path(shard, len(self.metadata["shard_lengths"]))

    def _read_index(self) -> Int64[np.ndarray, "records 3"]:
        """Reads the index and checks it against the metadata and the shards' sizes."""
        lengths = self.metadata["shard_lengths"]
        index = read_index(self._split, len(lengths))
        shards, offsets, sizes = index.T
        if np.bincount(shards, minlength=len(lengths)).tolist() != lengths:
            raise DatasetError(f"{self._split.index_path}: the index does not match the shard lengths; {REMEDY}")
        ends = np.zeros(len(lengths), np.int64)
        np.maximum.at(ends, shards, offsets + sizes + tfrecord.FRAMING_BYTES)
        for shard, end in enumerate(ends.tolist()):
            self._check_size(self._shard_path(shard), end)
        return index

    def _check_size(self, path: Path, expected: int) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DatasetError(f"{path}: the shard is missing ({error.strerror}); copy it again") from error
        if size != expected:
            state = "truncated" if size < expected else "longer than its index"
            raise DatasetError(f"{path}: the shard is {state}: {size} bytes of {expected}; copy it again")

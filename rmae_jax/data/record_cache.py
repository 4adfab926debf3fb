"""A cache of decoded records, for datasets that fit into memory as a whole."""

import threading
from collections.abc import Callable

import numpy as np

CACHE_BYTES = 2**28  # per process: about a hundred images of 640 x 480 with three label maps

Decoded = tuple[np.ndarray | int | None, ...]


class RecordCache:
    """A cache of a dataset's decoded records that holds all of them if they fit, and none of them otherwise.

    Caching a part of a large dataset gains nothing, since each record is read once an epoch. With few images, as in a
    quick experiment, decoding would take longer than all further steps to an example.

    Args:
      decode: returns the arrays of a record, given its number. They are shared: callers must not write into them.
      count: the number of records.
      limit: the size of all arrays together, in bytes. Caching stops as soon as the average size of the records so far
        is too large for it.
    """

    def __init__(self, decode: Callable[[int], Decoded], count: int, limit: int = CACHE_BYTES):
        self._decode, self._count, self._limit = decode, count, limit
        self._records: dict[int, Decoded] | None = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, record: int) -> Decoded:
        """Returns a decoded record; raises what `decode` raises."""
        records = self._records
        if records is not None and record in records:
            return records[record]
        decoded = self._decode(record)
        with self._lock:
            self._store(record, decoded)
        return decoded

    def _store(self, record: int, decoded: Decoded) -> None:
        if self._records is None or record in self._records:
            return
        self._records[record] = decoded
        self._bytes += sum(x.nbytes for x in decoded if isinstance(x, np.ndarray))
        if self._bytes * self._count > self._limit * len(self._records):
            self._records = None

    def __getstate__(self):
        return {"decode": self._decode, "count": self._count, "limit": self._limit}  # each process has its own cache

    def __setstate__(self, state):
        self.__init__(**state)

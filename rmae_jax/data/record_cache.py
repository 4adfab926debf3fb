"""Records decoded once, where all of a dataset fits into memory."""

import threading
from collections.abc import Callable

import numpy as np

CACHE_BYTES = 2**28  # in each process: about a hundred photographs of 640 x 480 with three label maps

Decoded = tuple[np.ndarray | int | None, ...]


class RecordCache:
    """Keeps what `decode` makes of a dataset's records if all of them fit, and none of them if not.

    A large dataset gains nothing from a few of its records: each comes once an epoch. With a few photographs, as when
    somebody tries an idea, decoding would take longer than all that makes examples of them.

    Args:
      decode: makes arrays of a record's number. They are handed out again: nobody may write into them.
      count: number of records.
      limit: bytes of all arrays together. It is given up as soon as the records so far, on average, are too large.
    """

    def __init__(self, decode: Callable[[int], Decoded], count: int, limit: int = CACHE_BYTES):
        self._decode, self._count, self._limit = decode, count, limit
        self._records: dict[int, Decoded] | None = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, record: int) -> Decoded:
        """What `decode` makes of a record; raises what that does."""
        records = self._records
        if records is not None and record in records:
            return records[record]
        made = self._decode(record)
        with self._lock:
            self._keep(record, made)
        return made

    def _keep(self, record: int, made: Decoded) -> None:
        if self._records is None or record in self._records:
            return
        self._records[record] = made
        self._bytes += sum(x.nbytes for x in made if isinstance(x, np.ndarray))
        if self._bytes * self._count > self._limit * len(self._records):
            self._records = None

    def __getstate__(self):
        return {"decode": self._decode, "count": self._count, "limit": self._limit}  # each process keeps its own

    def __setstate__(self, state):
        self.__init__(**state)

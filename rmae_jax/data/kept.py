"""Records decoded once, where all of a dataset fits into memory."""

import threading
from collections.abc import Callable

import numpy as np

KEPT_BYTES = 2**28  # in each process; some hundred photographs with their label maps

Decoded = tuple[np.ndarray | int | None, ...]


class KeptRecords:
    """Keeps what `decode` makes of records as long as that is at most `limit` bytes, and nothing once it is more.

    A large dataset gains nothing from a few of its records: each comes once an epoch. One of a few photographs, as
    somebody trains on who tries an idea, would spend more on decoding than on all that makes examples of it.

    Args:
      decode: makes arrays of a record's number; they are handed out again, so they are made read-only.
      limit: in bytes.
    """

    def __init__(self, decode: Callable[[int], Decoded], limit: int = KEPT_BYTES):
        self._decode, self._limit = decode, limit
        self._records: dict[int, Decoded] | None = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, record: int) -> Decoded:
        """What `decode` makes of a record; raises what that does."""
        records = self._records
        if records is None:
            return self._decode(record)
        if record not in records:
            made = self._decode(record)
            with self._lock:
                self._keep(record, made)
            return made
        return records[record]

    def _keep(self, record: int, made: Decoded) -> None:
        if self._records is None or record in self._records:
            return
        arrays = [x for x in made if isinstance(x, np.ndarray)]
        self._bytes += sum(x.nbytes for x in arrays)
        if self._bytes > self._limit:
            self._records = None
            return
        for x in arrays:
            x.flags.writeable = False
        self._records[record] = made

    def __getstate__(self):
        return {"decode": self._decode, "limit": self._limit}  # a process of its own keeps its own

    def __setstate__(self, state):
        self.__init__(**state)

"""Scalars for TensorBoard, written without its packages: their writers import PyTorch if it is installed.

An event file is a TFRecord file of `tensorflow.Event` messages. It uses these fields, by number:

    Event       1 wall_time, double   2 step, int64   3 file_version, string   5 summary   7 session_log
    Summary     1 value, repeated
    Value       1 tag, string   2 simple_value, float
    SessionLog  1 status, 1 for a start
"""

import os
import socket
import struct
import time
from pathlib import Path

from data_prep.dataset import tfrecord

_INTEGER, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types of fields
_START = 1


class EventsWriter:
    """A writer of a new event file in an existing folder.

    The file starts a session at `start_step`: TensorBoard hides the values of earlier files from that step on.
    """

    def __init__(self, folder: Path, start_step: int):
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._write(_field(3, _BYTES, b"brain.Event:2"))
        self._write(_field(2, _INTEGER, start_step) + _field(7, _BYTES, _field(1, _INTEGER, _START)))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes the values of one step, by name."""
        summary = b"".join(
            _field(1, _BYTES, _field(1, _BYTES, name.encode()) + _field(2, _FLOAT, value))
            for name, value in values.items()
        )
        self._write(_field(2, _INTEGER, step) + _field(5, _BYTES, summary))

    def flush(self) -> None:
        """Makes the values written so far visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, what: bytes) -> None:
        self._file.write(tfrecord.frame(_field(1, _DOUBLE, time.time()) + what))


def _field(number: int, kind: int, value: int | float | bytes) -> bytes:
    """Encodes a field of a Protocol Buffers message."""
    tag = _varint(number << 3 | kind)
    if kind == _INTEGER:
        return tag + _varint(value)
    if kind == _BYTES:
        return tag + _varint(len(value)) + value
    return tag + struct.pack("<d" if kind == _DOUBLE else "<f", value)


def _varint(value: int) -> bytes:
    """Encodes an integer with seven bits per byte, lowest first; all bytes but the last have the highest bit set."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])

"""TFRecord files: a sequence of frames with checksums.

A frame is the length of the data (uint64), the masked crc32c of the length (uint32), the data, and the masked crc32c of
the data (uint32), all little-endian.
"""

import os
import struct
from collections.abc import Iterator

import google_crc32c

from data_prep.storage.paths import AnyPath

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAMING_BYTES = HEADER_BYTES + FOOTER_BYTES


class FrameError(ValueError):
    """A frame that cannot be read.

    Attributes:
      offset: offset of the frame's first byte in the file.
      reason: description of the problem.
    """

    def __init__(self, offset: int, reason: str):
        super().__init__(f"byte {offset}: {reason}")
        self.offset, self.reason = offset, reason


def frame(data: bytes) -> bytes:
    """Returns the frame of one record's bytes."""
    header = struct.pack("<Q", len(data))
    return header + _masked_crc(header) + data + _masked_crc(data)


def unframe(framed: bytes) -> bytes:
    """Returns the data of exactly one frame.

    Raises:
      ValueError: the frame is truncated, or a length or a crc does not match.
    """
    if len(framed) < FRAMING_BYTES:
        raise ValueError(f"truncated: {len(framed)} bytes are less than a frame")
    data = framed[HEADER_BYTES:-FOOTER_BYTES]
    if _data_length(framed[:HEADER_BYTES]) != len(data):
        raise ValueError("the length is corrupt (crc mismatch)")
    if _masked_crc(data) != framed[-FOOTER_BYTES:]:
        raise ValueError("the data is corrupt (crc mismatch)")
    return data


def frames(path: AnyPath, start: int = 0, skip: int = 0) -> Iterator[tuple[int, bytes]]:
    """Reads the frames of a file one after the other.

    Args:
      path: the TFRecord file.
      start: offset of the first frame, in bytes.
      skip: number of frames to skip without reading their data.

    Yields:
      The offset of each frame, in bytes, and its data.

    Raises:
      FrameError: a frame is truncated, or a length or a crc does not match.
      OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        offset, number = file.seek(start), 0
        while offset < size:
            try:
                header = file.read(HEADER_BYTES)
                end = offset + _data_length(header) + FRAMING_BYTES
                if end > size:
                    raise ValueError(f"truncated: {size - offset} bytes of {end - offset}")
                data = None if number < skip else unframe(header + file.read(end - offset - len(header)))
            except ValueError as error:
                raise FrameError(offset, str(error)) from error
            if data is None:
                file.seek(end)
            else:
                yield offset, data
            offset, number = end, number + 1


def _data_length(header: bytes) -> int:
    if len(header) < HEADER_BYTES:
        raise ValueError(f"truncated: {len(header)} bytes are less than a frame")
    if _masked_crc(header[:8]) != header[8:]:
        raise ValueError("the length is corrupt (crc mismatch)")
    return struct.unpack("<Q", header[:8])[0]


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

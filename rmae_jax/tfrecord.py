"""TFRecord files: framing with crc, and the names of the files of a dataset.

A TFRecord file is a sequence of frames: length (uint64), masked crc32c of the length (uint32), data, masked
crc32c of the data (uint32), all little-endian.

A dataset's folder holds, for each split:

    NAME-SPLIT.tfrecord-00000-of-00064   the shards
    NAME-SPLIT.index.npy                 int64 (N, 3): shard, offset of the frame, length of the data
    NAME-SPLIT.json                      name, split, layers, classes, shard_lengths, num_examples, num_skipped
    NAME-SPLIT.skipped.jsonl             a line for each image left out: image_id, reason
    NAME-SPLIT.inputs.jsonl              a line for each file that it was made from: [name, bytes, time of change]

beside the features.json and dataset_info.json that make it a TFDS dataset.
"""

import struct

import google_crc32c

HEADER_BYTES = 12
FOOTER_BYTES = 4
FRAMING_BYTES = HEADER_BYTES + FOOTER_BYTES


def shard_name(name: str, split: str, shard: int, num_shards: int) -> str:
    """File name of one shard, as TFDS spells it."""
    return f"{name}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def index_name(name: str, split: str) -> str:
    """File name of a split's offset index."""
    return f"{name}-{split}.index.npy"


def metadata_name(name: str, split: str) -> str:
    """File name of a split's metadata."""
    return f"{name}-{split}.json"


def skipped_name(name: str, split: str) -> str:
    """File name of a split's report of images left out."""
    return f"{name}-{split}.skipped.jsonl"


def inputs_name(name: str, split: str) -> str:
    """File name of the list of files that a split was made from."""
    return f"{name}-{split}.inputs.jsonl"


def frame(data: bytes) -> bytes:
    """Frames one record's bytes."""
    header = struct.pack("<Q", len(data))
    return header + _masked_crc(header) + data + _masked_crc(data)


def unframe(framed: bytes) -> bytes:
    """Takes the data out of exactly one frame.

    Raises:
      ValueError: the frame is cut short, or a length or a crc does not match.
    """
    header, data = framed[:8], framed[HEADER_BYTES:-FOOTER_BYTES]
    if len(framed) < FRAMING_BYTES:
        raise ValueError(f"truncated: {len(framed)} bytes are less than a frame")
    if _masked_crc(header) != framed[8:HEADER_BYTES] or struct.unpack("<Q", header)[0] != len(data):
        raise ValueError("the length is damaged (crc mismatch)")
    if _masked_crc(data) != framed[-FOOTER_BYTES:]:
        raise ValueError("the data is damaged (crc mismatch)")
    return data


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

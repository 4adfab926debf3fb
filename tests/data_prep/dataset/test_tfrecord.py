"""TFRecord framing against an independent reader, and the names of a dataset's files."""

import struct
from pathlib import Path

import numpy as np
import pytest

from data_prep.dataset import tfrecord
from data_prep.dataset.split import Split

RECORDS = [b"", b"a", b"region" * 1000, bytes(range(256)), np.random.default_rng(0).bytes(100_000)]


def test_a_known_frame():
    """An empty record, byte by byte: the crcs are those that TensorFlow writes."""
    assert tfrecord.frame(b"").hex() == "0000000000000000" + "29039807" + "d8ea82a2"


@pytest.mark.parametrize("data", RECORDS, ids=len)
def test_a_frame_gives_back_its_data(data):
    framed = tfrecord.frame(data)
    assert len(framed) == tfrecord.HEADER_BYTES + len(data) + tfrecord.FOOTER_BYTES
    assert struct.unpack("<Q", framed[:8]) == (len(data),)
    assert tfrecord.unframe(framed) == data


def test_tensorboards_reader_reads_our_frames(tmp_path):
    """It checks both crcs."""
    stub = pytest.importorskip("tensorboard.compat.tensorflow_stub.pywrap_tensorflow")
    path = tmp_path / "file.tfrecord"
    path.write_bytes(b"".join(map(tfrecord.frame, RECORDS)))
    reader = stub.PyRecordReader_New(str(path))
    for data in RECORDS:
        reader.GetNext()
        assert reader.record() == data
    with pytest.raises(Exception, match="No more events"):
        reader.GetNext()


def test_we_read_the_frames_of_tensorboards_writer(tmp_path):
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    for data in RECORDS:
        path = tmp_path / str(len(data))
        with open(path, "wb") as file:
            writer.RecordWriter(file).write(data)
        assert path.read_bytes() == tfrecord.frame(data)


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_is_found(bit):
    framed = bytearray(tfrecord.frame(b"some data"))
    for place in range(len(framed)):
        framed[place] ^= 1 << bit
        with pytest.raises(ValueError, match="crc mismatch"):
            tfrecord.unframe(bytes(framed))
        framed[place] ^= 1 << bit


def test_cut_and_joined_frames_are_refused():
    framed = tfrecord.frame(b"some data")
    for length in range(len(framed)):
        with pytest.raises(ValueError, match="truncated" if length < 16 else "crc mismatch"):
            tfrecord.unframe(framed[:length])
    with pytest.raises(ValueError, match="the length is corrupt"):
        tfrecord.unframe(framed + framed)


def test_file_names():
    assert Split(Path(), "coco", "train").shard_path(3, 64) == Path("coco-train.tfrecord-00003-of-00064")
    assert Split(Path(), "coco", "train").index_path == Path("coco-train.index.npy")
    assert Split(Path(), "coco", "train").metadata_path == Path("coco-train.json")
    assert Split(Path(), "coco", "train").skipped_path == Path("coco-train.skipped.jsonl")

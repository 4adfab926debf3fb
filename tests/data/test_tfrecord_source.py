"""Random access to records, and what a damaged or incomplete dataset says of itself."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_datasets import make_record, write_dataset

from data_prep.dataset import tfrecord
from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data import tfrecord_source as source_module

SHARD = "toy-train.tfrecord-00002-of-00003"


def test_every_record_comes_back(dataset):
    source = TFRecordSource(dataset, "train")
    assert len(source) == 10 and source.num_layers == 3 and source.name == "toy"
    assert source.metadata["shard_lengths"] == [4, 1, 5]
    for number in range(10):
        assert source[number] == make_record(number, height=40 + number, width=56 - number)
    assert source[np.int64(3)].image_id == "folder/3.jpg"


def test_there_is_nothing_beyond_the_ends(dataset):
    source = TFRecordSource(dataset)
    for record in (-1, 10):
        with pytest.raises(IndexError, match=f"has records 0 to 9, no record {record}"):
            source[record]


def test_a_pickled_source_opens_its_files_again(dataset):
    source = TFRecordSource(dataset)
    assert source[0] == pickle.loads(pickle.dumps(source))[0]


def test_threads_share_a_source(dataset):
    source = TFRecordSource(dataset)
    numbers = np.random.default_rng(0).integers(10, size=400).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: source[number].image_id, numbers))
    assert found == [f"folder/{number}.jpg" for number in numbers]


def test_more_shards_than_files_may_stay_open(dataset, monkeypatch):
    monkeypatch.setattr(source_module, "_MAX_OPEN_SHARDS", 1)
    source = TFRecordSource(dataset)
    assert [source[number].image_id for number in (0, 4, 9)] == ["folder/0.jpg", "folder/4.jpg", "folder/9.jpg"]
    assert list(source._descriptors) == [0]


def test_splits_and_names_with_hyphens(dataset):
    write_dataset(dataset, [[make_record(77)], []], name="my-photos", split="val")
    source = TFRecordSource(dataset, "val")
    assert source.name == "my-photos" and source[0].image_id == "folder/77.jpg"
    assert len(TFRecordSource(dataset, "train")) == 10


def refused(folder: Path, *expected: str, split: str = "train") -> None:
    """Opening fails with one line that holds all of `expected`."""
    with pytest.raises(DatasetError) as caught:
        TFRecordSource(folder, split)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    for text in expected:
        assert text in message


def test_missing_folder_dataset_or_split(dataset, tmp_path):
    refused(tmp_path / "nowhere", "no such folder", "python -m data_prep --images=DIR --output=DATASET")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no dataset here", "python -m data_prep --images=DIR --output=DATASET")
    write_dataset(dataset, [[make_record(0)]], split="val")
    refused(dataset, "no split 'test' here, only train, val", split="test")


def test_two_datasets_in_a_folder(dataset):
    write_dataset(dataset, [[make_record(0)]], name="other")
    refused(dataset, "several datasets with a split 'train': other, toy")
    (dataset / "other-train.json").unlink()  # as a killed job leaves it
    assert len(TFRecordSource(dataset)) == 10


def test_unreadable_metadata(dataset):
    path = dataset / "toy-train.json"
    metadata = json.loads(path.read_text())
    path.write_text("{")
    refused(dataset, "toy-train.json", "cannot be read")
    del metadata["layers"]
    path.write_text(json.dumps(metadata))
    refused(dataset, "toy-train.json", "lacks layers")


def test_missing_or_inconsistent_index(dataset):
    path = dataset / "toy-train.index.npy"
    index = np.load(path)
    path.unlink()
    refused(dataset, "toy-train.index.npy", "missing; copy it again")
    np.save(path, index)
    content = path.read_bytes()
    for damaged in (b"not an array", content.replace(b"{", b"(", 1), content.replace(b"}", b"(", 1)):
        path.write_bytes(damaged)
        refused(dataset, "toy-train.index.npy", "cannot be read")
    for wrong, expected in (
        (index.astype(np.int32), "not int32 (10, 3)"),
        (index[:, :2], "not int64 (10, 2)"),
        (index[:-1], "does not match"),
        (np.where(index == 2, 3, index), "outside the 3 shards"),
        (-index, "out of order"),
    ):
        np.save(path, wrong)
        refused(dataset, "toy-train.index.npy", expected)


def test_missing_truncated_or_prolonged_shard(dataset):
    path = dataset / SHARD
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    refused(dataset, SHARD, f"truncated: {len(data) - 1} bytes of {len(data)}")
    path.write_bytes(data + b"x")
    refused(dataset, SHARD, "longer than its index")
    path.unlink()
    refused(dataset, SHARD, "the shard is missing")


def test_a_shard_cut_short_or_removed_later(dataset):
    source = TFRecordSource(dataset)
    path = dataset / SHARD
    path.write_bytes(path.read_bytes()[:-1])
    assert source[8].image_id == "folder/8.jpg"
    with pytest.raises(DatasetError, match=rf"{SHARD}: record 9 .*crc mismatch"):
        source[9]
    shutil.rmtree(dataset)
    with pytest.raises(DatasetError, match=r"00000-of-00003: record 0 .*No such file"):
        source[0]


def test_a_flipped_bit_anywhere_in_a_frame_is_found(dataset):
    source = TFRecordSource(dataset)
    path = dataset / SHARD
    good = path.read_bytes()
    _, offset, length = np.load(dataset / "toy-train.index.npy")[7].tolist()
    data = offset + tfrecord.HEADER_BYTES
    for place in (offset, offset + 7, offset + 8, data, data + length // 2, data + length - 1, data + length):
        bad = bytearray(good)
        bad[place] ^= 0x10
        path.write_bytes(bad)
        with pytest.raises(
            DatasetError, match=rf"{SHARD}: record 7 of split 'train' \(byte {offset}\): .*crc mismatch"
        ):
            source[7]
        assert source[6].image_id == "folder/6.jpg"


def test_a_frame_that_holds_no_record(tmp_path):
    folder = write_dataset(tmp_path / "dataset", [[make_record(0)]])
    frame = tfrecord.frame(b"")
    (folder / "toy-train.tfrecord-00000-of-00001").write_bytes(frame)
    np.save(folder / "toy-train.index.npy", np.array([(0, 0, 0)], np.int64))
    with pytest.raises(DatasetError, match=r"record 0 .*not a region record"):
        TFRecordSource(folder)[0]

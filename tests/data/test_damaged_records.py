"""Damaged records in the stream: named, or replaced by a rule that anybody can compute."""

import dataclasses

import numpy as np
import pytest
from small_datasets import assert_same, first_batches, make_record, write_dataset

from rmae_jax.data import DatasetError, RecordError, TFRecordSource, batches, center_examples
from rmae_jax.data.examples import RandomExamples

ARGUMENTS = {"seed": 3, "batch_size": 4, "image_size": 16, "num_regions": 8}
DAMAGED = {2, 5, 6, 7}


def flip_a_byte(source: TFRecordSource, record: int) -> None:
    """In the middle of the record's data: only its crc tells."""
    shard, offset, length = source._index[record].tolist()
    path = source._shard_path(shard)
    data = bytearray(path.read_bytes())
    data[offset + 12 + length // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TFRecordSource:
    """Ten records; the bytes of three are flipped, another's image cannot be decoded though its crc is right."""
    made = [make_record(number) for number in range(10)]
    made[7] = dataclasses.replace(made[7], image=b"not a jpeg")
    source = TFRecordSource(write_dataset(tmp_path_factory.mktemp("data"), [made[:4], made[4:]]))
    for record in DAMAGED - {7}:
        flip_a_byte(source, record)
    return source


def take(source: TFRecordSource, count: int, **changes) -> list[dict[str, np.ndarray]]:
    return first_batches(source, count, **(ARGUMENTS | {"on_error": "skip"} | changes))


@pytest.fixture(scope="module")
def first(source) -> list[dict[str, np.ndarray]]:
    return take(source, 10)


def test_the_rule_of_replacement(source, first):
    """Written anew from the documentation; replacements that are damaged themselves occur."""
    order = np.concatenate([np.random.default_rng((3, 0, epoch)).permutation(10) for epoch in range(4)])
    make, attempts = RandomExamples(source, 16, 8), []
    for n in range(40):
        record, attempt = int(order[n]), 0
        while record in DAMAGED:
            attempt += 1
            record = int(np.random.default_rng((3, 2, n, attempt)).integers(10))
        attempts.append(attempt)
        row = {key: array[n % 4] for key, array in first[n // 4].items()}
        assert row["record"] == record
        assert row["damaged"] == (order[n] if attempt else -1)
        expected = make(record, np.random.default_rng((3, 1, n)))
        for key in ("images", "regions"):
            np.testing.assert_array_equal(row[key], expected[key])
    assert sum(attempt > 0 for attempt in attempts) == 16 and max(attempts) > 1
    assert first[0]["damaged"].dtype == np.int64


@pytest.mark.parametrize("start_step", [1, 6])
def test_a_later_start_replaces_the_same(source, first, start_step):
    assert_same(take(source, 10 - start_step, start_step=start_step), first[start_step:])


def test_hosts_replace_the_same(source, first):
    parts = [take(source, 10, host=host, num_hosts=2) for host in (0, 1)]
    whole = [{key: np.concatenate([p[key] for p in part]) for key in part[0]} for part in zip(*parts, strict=True)]
    assert_same(whole, first)


def test_workers_replace_the_same(source, first):
    assert_same(take(source, 7, workers=2, start_step=3), first[3:])


def test_without_damage_skipping_changes_nothing(dataset):
    whole = TFRecordSource(dataset)
    expected = take(whole, 5, on_error="error")
    assert "damaged" not in expected[0]
    found = take(whole, 5)
    assert all((batch.pop("damaged") == -1).all() for batch in found)
    assert_same(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_at_its_step_and_ends_the_stream(source, workers):
    order = np.random.default_rng((1, 0, 0)).permutation(10)
    step = int(np.isin(order, list(DAMAGED)).argmax())
    assert step > 0
    stream = batches(source, **(ARGUMENTS | {"seed": 1, "batch_size": 1}), workers=workers)
    assert [int(next(stream)["record"][0]) for _ in range(step)] == order[:step].tolist()
    with pytest.raises(RecordError, match=rf"tfrecord-0000\d-of-00002: record {order[step]} of"):
        next(stream)
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_a_dataset_damaged_all_over_is_an_error(tmp_path):
    source = TFRecordSource(write_dataset(tmp_path, [[make_record(number) for number in range(3)]]))
    for record in range(3):
        flip_a_byte(source, record)
    with pytest.raises(DatasetError, match="record [012] .*crc mismatch.*10 records drawn to replace it are corrupt"):
        take(source, 1)


def test_a_shard_that_is_gone_is_not_skipped(tmp_path):
    """What the file system says may differ the next time, and a run could not be repeated."""
    source = TFRecordSource(write_dataset(tmp_path, [[make_record(0)], [make_record(1)]]))
    source._shard_path(0).unlink()
    with pytest.raises(DatasetError, match="00000-of-00002: record 0 .*No such file") as caught:
        take(source, 1)
    assert not isinstance(caught.value, RecordError)


def test_center_examples_leave_damaged_records_out(source):
    found = center_examples(source, [1, 2, 7, 9], image_size=16, num_regions=8, on_error="skip")
    assert_same([found], [center_examples(source, [1, 9], image_size=16, num_regions=8)])
    with pytest.raises(RecordError, match="record 2 of"):
        center_examples(source, [1, 2], image_size=16)
    with pytest.raises(DatasetError, match="record 7 of.*all requested records are corrupt"):
        center_examples(source, [2, 7], image_size=16, on_error="skip")


def test_on_error_is_error_or_skip(source):
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be error or skip"):
        take(source, 1, on_error="ignore")

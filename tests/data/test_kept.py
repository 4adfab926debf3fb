"""Records that are decoded once: as long as all fit, and never half."""

import pickle
from collections import Counter

import numpy as np
import pytest
from small_datasets import first_batches

from rmae_jax import records
from rmae_jax.data import TFRecordSource
from rmae_jax.data.kept import KeptRecords


class Decoding:
    """Makes 100 bytes of a record, and counts; record 3 is damaged."""

    def __init__(self):
        self.counts = Counter()

    def __call__(self, record: int):
        self.counts[record] += 1
        if record == 3:
            raise ValueError("damaged")
        return np.full(60, record, np.uint8), np.full(20, record, np.uint16), record


def test_a_record_is_decoded_once():
    decoding = Decoding()
    kept = KeptRecords(decoding, limit=300)
    for record in (0, 1, 2, 2, 1, 0):
        image, maps, label = kept(record)
        assert image.tolist() == [record] * 60
        assert maps.tolist() == [record] * 20
        assert label == record
    assert decoding.counts == {0: 1, 1: 1, 2: 1}


def test_nothing_is_kept_of_more_than_the_limit():
    decoding = Decoding()
    kept = KeptRecords(decoding, limit=299)
    for _ in range(3):
        for record in (0, 1, 2):
            assert kept(record)[2] == record
    assert decoding.counts == {0: 3, 1: 3, 2: 3}


def test_who_writes_into_a_kept_record_is_stopped():
    kept = KeptRecords(Decoding())
    with pytest.raises(ValueError, match="read-only"):
        kept(0)[0][:] = 7


def test_a_damaged_record_is_damaged_every_time():
    decoding = Decoding()
    kept = KeptRecords(decoding)
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            kept(3)
    assert decoding.counts == {3: 2}


def test_another_process_gets_no_records():
    kept = KeptRecords(Decoding(), limit=10**6)
    empty = len(pickle.dumps(kept))
    kept(0)
    assert abs(len(pickle.dumps(kept)) - empty) < 60  # the count alone


def test_a_stream_decodes_each_photograph_of_a_small_dataset_once(dataset, monkeypatch):
    seen, decode_image = Counter(), records.decode_image
    monkeypatch.setattr(records, "decode_image", lambda data: seen.update([data]) or decode_image(data))
    source = TFRecordSource(dataset)
    arguments = {"seed": 1, "batch_size": 5, "image_size": 16, "num_regions": 8, "threads": 1}
    first_batches(source, 8, **arguments)
    assert set(seen.values()) == {1}
    assert len(seen) == len(source)

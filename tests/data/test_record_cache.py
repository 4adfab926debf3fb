"""Records that are decoded once: as long as all fit, and never half."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_datasets import first_batches

from data_prep.dataset import records
from rmae_jax.data import TFRecordSource
from rmae_jax.data.record_cache import RecordCache


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
    kept = RecordCache(decoding, count=3, limit=300)
    for record in (0, 1, 2, 2, 1, 0):
        image, maps, label = kept(record)
        assert image.tolist() == [record] * 60
        assert maps.tolist() == [record] * 20
        assert label == record
    assert decoding.counts == {0: 1, 1: 1, 2: 1}


def test_nothing_is_kept_of_more_than_the_limit():
    decoding = Decoding()
    kept = RecordCache(decoding, count=3, limit=299)
    for _ in range(3):
        for record in (0, 1, 2):
            assert kept(record)[2] == record
    assert decoding.counts == {0: 3, 1: 3, 2: 3}


def test_a_damaged_record_is_damaged_every_time():
    decoding = Decoding()
    kept = RecordCache(decoding, count=4)
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            kept(3)
    assert decoding.counts == {3: 2}


def test_another_process_keeps_its_own():
    kept = RecordCache(Decoding(), count=4)
    kept(0)
    other = pickle.loads(pickle.dumps(kept))
    assert other._decode.counts == {0: 1}  # as it was sent
    assert other(0)[2] == other(0)[2] == 0
    assert other._decode.counts == {0: 2}


def test_threads_share_what_is_kept():
    decoding = Decoding()
    kept = RecordCache(decoding, count=3, limit=300)
    with ThreadPoolExecutor(8) as threads:
        labels = [made[2] for made in threads.map(kept, [0, 1, 2] * 200)]
    assert labels == [0, 1, 2] * 200
    before = dict(decoding.counts)
    assert [kept(record)[2] for record in range(3)] == [0, 1, 2]
    assert decoding.counts == before


def test_a_stream_decodes_each_photograph_of_a_small_dataset_once(dataset, monkeypatch):
    seen, decode_image = Counter(), records.decode_image
    monkeypatch.setattr(records, "decode_image", lambda data: seen.update([data]) or decode_image(data))
    source = TFRecordSource(dataset)
    arguments = {"seed": 1, "batch_size": 5, "image_size": 16, "num_regions": 8, "threads": 1}
    first_batches(source, 8, **arguments)
    assert set(seen.values()) == {1}
    assert len(seen) == len(source)

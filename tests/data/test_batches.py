"""The stream of batches: the same for every number of hosts and workers, and from every step."""

import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from small_datasets import assert_same, first_batches, make_record, write_dataset

from rmae_jax.data import DatasetError, TFRecordSource, batches

ARGUMENTS = {"seed": 1, "batch_size": 8, "image_size": 16, "num_regions": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TFRecordSource:
    made = [make_record(number) for number in range(10)]
    return TFRecordSource(write_dataset(tmp_path_factory.mktemp("data"), [made[:4], made[4:]]))


def take(source: TFRecordSource, count: int, **changes) -> list[dict[str, np.ndarray]]:
    return first_batches(source, count, **(ARGUMENTS | changes))


@pytest.fixture(scope="module")
def first(source) -> list[dict[str, np.ndarray]]:
    """The first ten batches: eight epochs."""
    return take(source, 10)


def test_shapes_and_types(source, first):
    kinds = {key: (array.shape, array.dtype) for key, array in first[0].items()}
    assert kinds == {
        "images": ((8, 16, 16, 3), np.uint8),
        "regions": ((8, 16, 16), np.uint8),
        "record": ((8,), np.int64),
    }
    assert all(type(array) is np.ndarray for array in first[0].values())
    assert take(source, 1, num_regions=9)[0]["regions"].dtype == np.uint16
    assert take(source, 1, num_regions=32)[0]["regions"].dtype == np.uint32
    assert set(take(source, 1, num_regions=0)[0]) == {"images", "record"}


def test_every_epoch_has_every_record_once_in_an_order_of_its_own(first):
    """Ten records in batches of eight: batches span epochs."""
    epochs = np.concatenate([batch["record"] for batch in first]).reshape(8, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 8


def test_records_are_augmented_anew_in_every_epoch(first):
    images = np.concatenate([batch["images"] for batch in first])
    numbers = np.concatenate([batch["record"] for batch in first])
    assert len({image.tobytes() for image in images[numbers == 3]}) == 8


def test_images_and_regions_belong_together(source, first):
    """MAE's stream shows the very crops that R-MAE's shows."""
    for one, other in zip(take(source, 3, num_regions=0), first, strict=False):
        np.testing.assert_array_equal(one["images"], other["images"])


def test_a_dataset_smaller_than_the_batch(source):
    found = take(source, 2, batch_size=24)
    numbers = np.concatenate([batch["record"] for batch in found])
    assert (np.sort(numbers[:40].reshape(4, 10), axis=1) == np.arange(10)).all()


def test_the_seed_decides(source, first):
    assert_same(take(source, 2), first[:2])
    other = take(source, 2, seed=2)
    assert (other[0]["record"] != first[0]["record"]).any() or (other[1]["record"] != first[1]["record"]).any()
    assert (other[0]["images"] != first[0]["images"]).any()


@pytest.mark.parametrize("start_step", [1, 7])
def test_starting_at_a_step_equals_skipping_to_it(source, first, start_step):
    assert_same(take(source, 10 - start_step, start_step=start_step), first[start_step:])


def test_a_step_far_away(source):
    """Step ten million begins at once."""
    step = 10_000_000
    assert_same(take(source, 1, start_step=step, threads=1), take(source, 2, start_step=step - 1)[1:])


@pytest.mark.parametrize("num_hosts", [2, 4])
def test_hosts_in_order_make_up_the_global_batch(source, first, num_hosts):
    parts = [take(source, 5, host=host, num_hosts=num_hosts) for host in range(num_hosts)]
    whole = [{key: np.concatenate([p[key] for p in part]) for key in part[0]} for part in zip(*parts, strict=True)]
    assert_same(whole, first[:5])


@pytest.mark.parametrize("threads", [1, 5])
def test_the_number_of_threads_changes_nothing(source, first, threads):
    assert_same(take(source, 10, threads=threads), first)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(source, first, workers):
    assert_same(take(source, 7, workers=workers), first[:7])
    assert not multiprocessing.active_children()


def test_workers_that_need_more_shared_memory_than_there_is_are_refused(source, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=64 << 20))
    with pytest.raises(OSError, match="/dev/shm has 64 MiB free, but 3 workers need .* --shm-size=.g .* data.workers"):
        batches(source, **ARGUMENTS | {"batch_size": 30_000, "workers": 3})
    assert not multiprocessing.active_children()
    batches(source, **ARGUMENTS | {"batch_size": 30_000}).close()


def test_workers_hosts_and_a_later_start_together(source, first):
    expected = [{key: array[4:] for key, array in batch.items()} for batch in first[3:6]]
    assert_same(take(source, 3, workers=2, host=1, num_hosts=2, start_step=3), expected)


def test_closing_and_deleting_end_the_threads(source):
    before = set(threading.enumerate())
    stream = batches(source, **ARGUMENTS)
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)
    stream = batches(source, **ARGUMENTS)
    next(stream)
    del stream
    gc.collect()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch_size": 6, "num_hosts": 4}, "batch_size 6 is not a positive multiple of the number of hosts, 4"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"host": 2, "num_hosts": 2}, "host is 2"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**32}, "seed 4294967296"),
        ({"start_step": -1}, "start_step -1"),
        ({"workers": -1}, "workers -1"),
        ({"num_regions": 33}, "num_regions is 33"),
    ],
)
def test_arguments_out_of_range_fail_at_once(source, changes, expected):
    with pytest.raises(ValueError, match=expected):
        batches(source, **(ARGUMENTS | changes))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_named(tmp_path, workers):
    folder = write_dataset(tmp_path / "dataset", [[make_record(0)]])
    shard = folder / "toy-train.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    stream = batches(TFRecordSource(folder), **ARGUMENTS, workers=workers)
    with pytest.raises(DatasetError, match=r"toy-train.tfrecord-00000-of-00001: record 0 .*crc mismatch"):
        next(stream)
    stream.close()


SCRIPT = """
import sys, time
from rmae_jax.data import TFRecordSource, batches
if __name__ == "__main__":
    stream = batches(
        TFRecordSource(sys.argv[1]), seed=0, batch_size=4, image_size=16, num_regions=8, workers=int(sys.argv[2])
    )
    batch = next(stream)
    print("ready", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def start(tmp_path, source: TFRecordSource, workers: int, seconds: float) -> subprocess.Popen:
    """A program that takes a batch, and then sleeps with the stream open."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, source.folder, str(workers), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path]), "PYTHONWARNINGS": "default"},
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_never_closes_its_stream_ends_quietly(tmp_path, source, workers):
    output, errors = start(tmp_path, source, workers, 0).communicate(timeout=60)
    assert output == "ready\n" and errors == ""


def test_ctrl_c_reports_once(tmp_path, source):
    program = start(tmp_path, source, 2, 60)
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads /proc")
def test_workers_end_with_a_killed_program(tmp_path, source):
    program = start(tmp_path, source, 1, 60)
    assert program.stdout.readline() == "ready\n"
    group = program.pid
    program.kill()
    program.communicate(timeout=30)  # returns when the last worker has closed the pipes
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(group):
        time.sleep(0.1)
    assert not _alive(group)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

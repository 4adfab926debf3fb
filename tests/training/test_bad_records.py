"""Corrupt records and losses that are not finite: what a run reports, counts and writes."""

import itertools
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmae_jax.data import TFRecordSource
from rmae_jax.training import metrics, pretrain
from rmae_jax.training.bad_records import SkippedRecords, list_images
from rmae_jax.training.loss_buffer import LossBuffer, NonFiniteLoss

VICTIM = int(np.random.default_rng((0, 0, 0)).permutation(6)[4])  # step 5 of a run with batches of one


@pytest.fixture(scope="module")
def damaged(dataset, tmp_path_factory) -> Path:
    """The dataset, with a byte flipped in one of its six records; its validation split is whole."""
    folder = tmp_path_factory.mktemp("damaged")
    for file in dataset.glob("*-train.*"):
        (folder / file.name).write_bytes(file.read_bytes())
        (folder / file.name.replace("-train", "-validation")).write_bytes(file.read_bytes())
    source = TFRecordSource(folder)
    shard, offset, length = source._index[VICTIM].tolist()
    path = source._shard_path(shard)
    content = bytearray(path.read_bytes())
    content[offset + 12 + length // 2] ^= 0xFF
    path.write_bytes(content)
    return folder


def test_a_run_that_a_damaged_record_ended_goes_on_without_it(config, command, damaged, tmp_path, capsys):
    changes = {"batch_size": 1, "data.path": str(damaged), "data.picture_split": "validation", "data.workers": 2}
    changes |= {"model.objective": "mae", "model.depth": 1}
    arguments = command(tmp_path / "run", **changes)
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    named = f"00000-of-00001: record {VICTIM} of split 'train' "
    assert line.startswith("error: ") and named in line and line.endswith("on_error=skip continues without it")
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()

    config.update_from_flattened_dict(changes | {"data.on_error": "skip", "data.workers": 0})
    lines = []
    for run in (tmp_path / "run", tmp_path / "undisturbed"):
        capsys.readouterr()
        pretrain(config, run)
        captured = capsys.readouterr()
        (reason,) = captured.err.splitlines()  # once, though it was met twice
        assert named in reason and "crc mismatch" in reason
        assert metrics.read(run / "skipped.jsonl")[0] == {"step": 5, "damaged": [VICTIM]}
        lines.append(metrics.read(run / "metrics.jsonl"))
        for values in lines[-1]:
            del values["images_per_second"]
    skipped = [line.pop("skipped_records", None) for line in lines[0]]
    assert skipped == [None, 0, 1, *(1 + (line["step"] >= second_time()) for line in lines[0][3:])]
    assert [line.pop("skipped_records") for line in lines[1]] == [0, *skipped[1:]]
    assert lines[0] == lines[1]


def second_time() -> int:
    """The step of the second epoch that reads the corrupt record."""
    return 7 + np.random.default_rng((0, 0, 1)).permutation(6).tolist().index(VICTIM)


def test_a_resumed_run_counts_as_if_it_had_never_stopped(damaged, tmp_path, capsys):
    source, rows = TFRecordSource(damaged), np.array([-1, VICTIM, VICTIM, -1])
    clean = {"damaged": np.full(4, -1)}
    whole, found = SkippedRecords(tmp_path, source, 0), []
    for step in range(1, 7):
        found.append(whole.add(step, {"damaged": rows} if step % 2 else clean))
    assert found == [2, 2, 4, 4, 6, 6]
    for start in (2, 3, 5):
        resumed = SkippedRecords(tmp_path, source, start)
        steps = range(start + 1, 7)
        assert [resumed.add(s, {"damaged": rows} if s % 2 else clean) for s in steps] == found[start:]
    assert len(metrics.read(tmp_path / "skipped.jsonl")) == 3
    assert capsys.readouterr().err.count("skipped: ") == 3  # each process names the record; the last one met none
    assert SkippedRecords(tmp_path, source, 6).add(7, {"images": rows}) is None


def test_the_records_are_those_of_the_first_bad_step(tmp_path):
    """Three intervals of three steps; steps 5 and 6 are bad, which is reported once step 9 is added."""
    with metrics.MetricsWriter(tmp_path, 0, 9) as writer:
        losses = LossBuffer(writer, optax.constant_schedule(0.0), 4)
        with pytest.raises(NonFiniteLoss, match="loss is nan at step 5") as caught:
            for step in itertools.count(1):
                value = jnp.float32(np.nan if step in (5, 6) else 1)
                losses.add(step, {"loss": value}, np.arange(4) + 10 * step, step % 3 == 0)
    assert (step, caught.value.step, caught.value.records.tolist()) == (9, 5, [50, 51, 52, 53])


def test_images_are_listed_though_a_record_or_the_folder_is_lost(damaged, tmp_path):
    source, other = TFRecordSource(damaged), (VICTIM + 1) % 6
    message = list_images(tmp_path, source, 7, np.array([VICTIM, other]))
    assert (tmp_path / "nonfinite-7.txt").read_text().splitlines() == [source.where(VICTIM), source[other].image_id]
    assert source.where(VICTIM) in message
    message = list_images(tmp_path / "nowhere", source, 7, np.array([other]))
    assert source[other].image_id in message and "could not be written" in message

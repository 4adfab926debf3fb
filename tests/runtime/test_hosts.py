"""Several hosts, each a process of its own: what they learn, how they differ, and how they are lost."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import (
    Command,
    assert_close,
    finish,
    learned,
    outcomes,
    start_hosts,
    start_slurm_step,
    step_logged,
    wait_until,
)

from configs import rmae_tiny
from rmae_jax.data import DatasetError
from rmae_jax.runtime import host_consistency
from rmae_jax.runtime.hosts import HostError, connect_hosts, is_device_error
from rmae_jax.training import recipe
from rmae_jax.training.checkpoints import newest

# Rounding grows with every step: few of them, and none larger than need be.
RUN = {"steps": 12, "base_lr": 0.002, "pictures_every": 6}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("alone")


@pytest.fixture
def expected(alone, command):
    """What one host with one device learns."""
    if not (alone / "losses.png").exists():
        finish(command(alone, **RUN))
    return learned(alone)


@pytest.mark.parametrize("count, changes", [(2, {"mesh.fsdp": 2, "data.workers": 1}), (4, {"mesh.fsdp": 2})])
def test_several_hosts_learn_what_one_does(command, expected, tmp_path, count, changes):
    run = tmp_path / "run"
    arguments = command(run, **RUN, **changes)
    found = outcomes(start_slurm_step(arguments, 2) if count == 2 else start_hosts([arguments] * count))
    assert [status for status, _ in found] == [0] * count, found
    assert f"{count} cpu device(s) of {count} hosts" in found[0][1]
    for _, output in found[1:]:
        assert not [line for line in output.splitlines() if not line.startswith("[Gloo]")]  # host 0 speaks for all
    assert_close(learned(run), expected)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["12", "6", "9"]
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["0000006.png", "0000012.png"]
    assert len(list((run / "tensorboard").iterdir())) == 1


# Without regions: what is killed must be quick to begin anew.
LIVES = {"model.objective": "mae", "steps": 90, "base_lr": 0.002, "checkpoint_every": 10, "pictures_every": 1000}


def other_version(dataset: Path, folder: Path) -> Path:
    """The dataset, but for a word in its metadata."""
    folder.mkdir()
    for file in dataset.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    (metadata,) = folder.glob("*-train.json")
    metadata.write_text(metadata.read_text().replace("fh_100", "fh_101"))
    return folder


@pytest.mark.parametrize(
    ("difference", "message", "own"),
    [
        ("config", r"host 1 \(.*\) has config.base_lr 3.0 instead of 0.002", None),
        ("no dataset", r"host 2 \(.*\) failed: NOWHERE: no such folder", "NOWHERE: no such folder"),
        ("dataset", r"host 1 \(.*\) has split train 6 records, crc \w{8} instead of 6 records, crc \w{8}$", None),
        ("folder", r"host 1 \(.*\) does not see what host 0 writes to .*/run; all hosts must share the folder", None),
    ],
)
def test_a_host_that_is_not_like_the_others_is_named_by_all(command, dataset, tmp_path, difference, message, own):
    elsewhere, changes = tmp_path / "run", {}
    if difference == "config":
        changes = {"base_lr": 3.0}
    elif difference == "no dataset":
        changes = {"data.path": "NOWHERE"}
    elif difference == "dataset":
        changes = {"data.path": other_version(dataset, tmp_path / "other")}
    else:
        elsewhere = tmp_path / "elsewhere" / "run"
    common = RUN | {"batch_size": 6}
    alike = [command(tmp_path / "run", **common)] * (2 if own else 1)
    found = outcomes(start_hosts([*alike, command(elsewhere, **common | changes)]), seconds=120)
    for (status, output), expected in zip(found, [message] * len(alike) + [own or message], strict=True):
        assert status == 1, output
        (line,) = [line for line in output.splitlines() if not line.startswith("[Gloo]")]
        assert line.startswith("error: ") and re.search(expected, line), line


def test_other_libraries_are_named():
    here = {"name": "a", "jax": "0.10.2", "config.seed": "0"}
    there = here | {"name": "b", "jax": "0.10.1"}
    assert host_consistency.differences([here, here | {"name": "c"}]) == ""
    assert host_consistency.differences([here, here, there]) == (
        "not all hosts are like host 0 (a): host 2 (b) has jax 0.10.1 instead of 0.10.2"
    )
    assert host_consistency.differences([here] + 8 * [there]).endswith("; and 3 more hosts")
    assert {"jax", "jaxlib", "numpy", "code"} <= host_consistency.program().keys()
    keys = recipe.shared_keys(rmae_tiny.get_config())
    assert keys["config.model.width"] == str(rmae_tiny.get_config().model.width)
    assert keys["config.data.path"] == ""  # or "given": each host may have its own copy


def last_words(outcome: tuple[int, str]) -> str:
    """What a host that lost another one says last."""
    status, output = outcome
    assert status not in (0, None), output
    return output.splitlines()[-1]


def test_a_run_outlives_its_hosts(command, tmp_path):
    """Stopped on one host; then one host is killed, then the first; then a single host resumes, on another mesh."""
    run, lives = tmp_path / "run", LIVES

    def start() -> list[Command]:
        return start_hosts([command(run, **lives)] * 2)

    hosts = start()
    wait_until(lambda: step_logged(run) >= 10, hosts[0])
    hosts[1].send_signal(signal.SIGTERM)
    found = outcomes(hosts)
    assert [status for status, _ in found] == [0, 0], found
    assert "stopped after step" in found[0][1]
    stopped = int(newest(run).name)
    assert stopped >= 10

    for victim in (1, 0):
        hosts, before = start(), step_logged(run)
        wait_until(lambda before=before: step_logged(run) >= before + 20, hosts[0])
        hosts[victim].kill()
        killed = time.monotonic()
        words = last_words(outcomes(hosts)[1 - victim])
        assert time.monotonic() - killed < 60
        assert words.startswith(f"error: host {1 - victim} (") and "another host" in words, words
        assert "last good checkpoint is" in words and "same command resumes" in words

    output = finish(command(run, **lives, mesh__fsdp=2), XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert "resumed from" in output and "on 4 cpu device(s)" in output
    finish(command(tmp_path / "alone", **lives))
    assert_close(learned(run), learned(tmp_path / "alone"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinator": "127.0.0.1:1234"}, "must be given together"),
        ({"coordinator": "nowhere", "num_hosts": 2, "host": 0}, "--coordinator=nowhere is not HOST:PORT"),
        ({"coordinator": "nowhere:1", "num_hosts": 2, "host": 2}, "--host=2 is not one of 2 hosts, counted from 0"),
    ],
)
def test_what_cannot_be_is_said(arguments, message):
    with pytest.raises(HostError, match=message), connect_hosts(**arguments):
        pass


def test_errors_of_devices():
    """Where arrays are fetched, they are plain ValueErrors; a dataset's name is none of them."""
    assert is_device_error(ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer"))
    assert not is_device_error(DatasetError("INTERNAL: no such folder"))
    assert not is_device_error(ValueError("COCO: no such folder"))
    assert not is_device_error(None)


def test_hosts_that_never_come():
    program = "from rmae_jax.runtime import hosts; hosts.CONNECT_SECONDS = 1\n"
    program += "with hosts.connect_hosts('127.0.0.1:1', 2, 1): pass"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    words = last_words((process.returncode, process.stderr))
    assert re.match("error: .*: not all hosts connected to the run's coordinator within 1 s; start the same", words)


def test_a_process_alone_needs_nobody():
    with connect_hosts("127.0.0.1:1234", 1, 0):
        host_consistency.check_equal({"anything": "at all"}, "nothing")


def test_last_words_are_said_of_a_process_that_cannot():
    load = "import runpy; words = runpy.run_path('rmae_jax/runtime/crash_message.py')['CrashMessage']()"  # without JAX
    program = f"import os; {load}; words.set('a'); words.set('b\\nc'); "
    for end, expected in (("os.abort()", "b c"), ("os.kill(os.getpid(), 9)", "b c"), ("words.close()", "")):
        process = subprocess.run([sys.executable, "-c", program + end], capture_output=True, text=True, timeout=60)
        assert process.stderr.strip() == expected

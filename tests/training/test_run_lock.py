"""A run folder belongs to one run at a time."""

import errno
import os
import re
import signal
import subprocess
import sys

import pytest
from runs import learned, start, step_logged, wait_until

from data_prep.storage import paths
from rmae_jax.training import ConfigError
from rmae_jax.training.run_lock import lock_run

HOLDER = """
import sys, time
from pathlib import Path
from rmae_jax.training.run_lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_start_names_the_owner_and_changes_nothing(command, tmp_path):
    run = tmp_path / "run"
    changes = {"model.objective": "mae", "steps": 60, "checkpoint_every": 5, "pictures_every": 1000}
    first = start(command(run, **changes))
    wait_until(lambda: step_logged(run) >= 6, first)
    second = start(command(run, **changes))
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    (line,) = output.splitlines()
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    owner = f"process {first.pid} on host {re.escape(os.uname().nodename)}, started {when}"
    assert re.match(rf"error: {re.escape(str(run))} is in use: {owner}, is training there. .* another --workdir", line)
    assert first.communicate()[0].count("error") == 0 and first.returncode == 0
    assert [entry["step"] for entry in learned(run)[0]] == list(range(2, 62, 2))


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, capsys):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid} on host"), lock_run(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock_run(tmp_path):
        assert f"process {holder.pid} " in capsys.readouterr().out
    with lock_run(tmp_path):
        assert capsys.readouterr().out == ""  # the previous owner has released it


def test_a_run_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="run is a file; give the path of a folder"), lock_run(tmp_path / "run"):
        pass


def test_an_error_releases_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock_run(tmp_path / "run"):
            raise ZeroDivisionError


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(paths.fcntl, "flock", refuse)
    with lock_run(tmp_path):
        assert "cannot be locked (No locks available)" in capsys.readouterr().out

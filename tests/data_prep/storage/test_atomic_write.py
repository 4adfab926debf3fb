"""Files are complete or as they were; what a killed process left is deleted, and nothing else."""

import os
import signal

import pytest

from data_prep.storage.atomic_write import atomic_folder, atomic_write, remove_unfinished


def killed_while_writing(path, write) -> None:
    """A process that is killed in the middle of writing `path`."""
    if (child := os.fork()) == 0:
        with write(path):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path):
    for name in ("metrics.json", "a.tmp", "metrics.json.tmp", f"{'0' * 32}.png"):
        (tmp_path / name).write_text("whole")
    before = {path.name for path in tmp_path.iterdir()}
    killed_while_writing(tmp_path / "metrics.json", atomic_write)
    killed_while_writing(tmp_path / "folder", atomic_folder)
    assert len(list(tmp_path.iterdir())) == len(before) + 2
    assert (tmp_path / "metrics.json").read_text() == "whole"
    remove_unfinished(tmp_path, "other")
    assert len(list(tmp_path.iterdir())) == len(before) + 2
    remove_unfinished(tmp_path, "folder")
    assert len(list(tmp_path.iterdir())) == len(before) + 1
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("write", [atomic_write, atomic_folder])
def test_an_error_changes_nothing(tmp_path, write):
    path = tmp_path / "path"
    with pytest.raises(ZeroDivisionError), write(path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())

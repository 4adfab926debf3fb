"""Files are complete or as they were; what a killed process left is deleted, and nothing else."""

import pytest

from data_prep.storage.atomic_write import atomic_folder, atomic_write, remove_unfinished


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path):
    for name in ("metrics.json", "a.tmp", "metrics.json.tmp", f"{'0' * 32}.png"):
        (tmp_path / name).write_text("whole")
    before = {path.name for path in tmp_path.iterdir()}
    writers = [atomic_write(tmp_path / "metrics.json"), atomic_folder(tmp_path / "folder")]
    for writer in writers:
        writer.__enter__()  # and never leaves: the process has been killed
    assert len(list(tmp_path.iterdir())) == len(before) + 2
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

"""Local paths and how flags spell them."""

from pathlib import Path

import pytest

from data_prep.storage.paths import local_path, parse_path


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    """Shells do not replace it in --workdir=~/run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/run") == parse_path("~/run") == tmp_path / "run"
    assert local_path(Path("~")) == tmp_path
    assert local_path("a/~") == Path("a/~")
    assert str(parse_path("gs://bucket/~")) == "gs://bucket/~"
    for parse in (local_path, parse_path):
        with pytest.raises(ValueError, match="the path is empty"):
            parse("")

"""Where Numba's machine code is stored."""

import tempfile

import pytest
from numba.core import caching

from data_prep.errors import PrepError
from data_prep.numba_cache import njit
from data_prep.storage import paths


def double(x):
    return 2 * x


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_without_a_writable_home_or_package_code_is_cached_in_a_temporary_folder(temporary, monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(caching.config, "CACHE_DIR", "")
    compiled = njit()(double)
    assert compiled(21) == 42
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("*.nbi")) and list(folder.rglob("*.nbc"))


def test_a_folder_of_another_user_is_refused(temporary, monkeypatch):
    monkeypatch.setattr(paths.os, "getuid", lambda: 12345)
    with pytest.raises(PrepError, match=r"data_prep-12345 belongs to another user; set \$TMPDIR"):
        paths.private_folder()

from pathlib import Path

import jax
import pytest
from runs import assert_same, finish, learned

from rmae_jax.runtime import hosts
from rmae_jax.runtime.compilation_cache import enable_compilation_cache


@pytest.fixture
def unnamed(monkeypatch, tmp_path):
    """No folder is named; the user's caches lie in a folder of the test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_where_caches_lie(unnamed, tmp_path):
    enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "rmae_jax" / "compiled")
    assert (tmp_path / "rmae_jax" / "compiled").is_dir()


def test_without_such_a_variable_they_lie_at_home(unnamed, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "home" / ".cache" / "rmae_jax" / "compiled")


def test_a_folder_that_is_named_stays(unnamed, tmp_path):
    jax.config.update("jax_compilation_cache_dir", "/named")
    enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == "/named"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_done_without(unnamed, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_several_hosts_name_a_folder_or_have_none(unnamed, monkeypatch):
    monkeypatch.setattr(hosts, "several", lambda: True)
    enable_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_second_run_compiles_nothing_and_learns_the_same(command, tmp_path):
    found = []
    for run in ("first", "second"):
        arguments = command(tmp_path / run, model__objective="mae", steps=3)
        finish(arguments, JAX_COMPILATION_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path))
        found.append({file.name for file in Path(tmp_path, "rmae_jax", "compiled").iterdir()})
    assert found[0] == found[1]
    assert any(name.startswith("jit_step-") for name in found[0])
    assert_same(learned(tmp_path / "first"), learned(tmp_path / "second"))


def test_several_cpu_devices_have_no_cache(unnamed, monkeypatch):
    """JAX loads wrong programs from it there."""
    monkeypatch.setattr(jax, "local_device_count", lambda: 8)
    before = jax.config.jax_enable_compilation_cache
    try:
        enable_compilation_cache()
        assert not jax.config.jax_enable_compilation_cache
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_enable_compilation_cache", before)

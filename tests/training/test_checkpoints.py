"""Checkpoints that are corrupt or cannot be written, and what a killed process leaves."""

import gc
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from runs import flip, largest

from rmae_jax.training.checkpoints import CheckpointError, Checkpoints, load_params, newest
from rmae_jax.training.checksums import checksums
from rmae_jax.training.step import TrainState

# Orbax leaves coroutines behind that nobody awaits, when it cannot read a file.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def collected():
    """They are collected here, not within a test of another file, which such warnings would fail."""
    yield
    gc.collect()


def toy(step: int) -> TrainState:
    rng = np.random.default_rng(step)
    params = {"head": {"kernel": jnp.asarray(rng.normal(size=(40, 100)), jnp.float32), "bias": jnp.ones(3)}}
    moments = jax.tree.map(lambda x: (x + 1).astype(jnp.bfloat16), params)
    return TrainState(jnp.int32(step), params, ({"mu": moments}, jnp.int32(step)))


def abstract() -> TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), toy(0))


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def restore(run: Path) -> TrainState:
    with Checkpoints(run) as checkpoints:
        return checkpoints.restore(abstract())


@pytest.fixture
def run(tmp_path) -> Path:
    """A run with checkpoints 1, 2 and 3."""
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(toy(step))
    return tmp_path


def test_no_damage_to_any_file_goes_unnoticed(run, tmp_path_factory):
    """What is restored is what was saved, or an error, whatever byte of whatever file has changed."""
    folder = run / "checkpoints" / "3"
    good = tmp_path_factory.mktemp("good") / "3"
    folder.rename(good)
    rng = np.random.default_rng(0)
    noticed = {}
    for file in sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file()):
        size = (good / file).stat().st_size
        harms = {"deleted": lambda f: f.unlink()}
        if size:
            harms["emptied"] = lambda f: f.write_bytes(b"")
            harms["cut"] = lambda f: f.write_bytes(f.read_bytes()[: f.stat().st_size // 2])
            for byte in rng.integers(size, size=4):
                bit = int(rng.integers(8))
                harms[f"bit {bit} of byte {byte}"] = lambda f, byte=byte, bit=bit: flip(f, byte, bit)
        for name, harm in harms.items():
            shutil.copytree(good, folder)
            harm(folder / file)
            try:
                params = load_params(folder, abstract().params)
                assert same(params, toy(3).params), (file, name)
            except CheckpointError as error:
                assert str(folder) in str(error)
            state = restore(run)
            step = int(state.step)
            assert same(state, toy(step)), (file, name)
            noticed[f"{file} {name}"] = step == 2
            for left in (run / "checkpoints").glob("3*"):
                shutil.rmtree(left)
    assert sum(noticed.values()) > len(noticed) / 2
    values = largest(good).relative_to(good)  # not each of their bytes means something
    assert all(noticed[f"{values} {name}"] for name in ("deleted", "emptied"))


@pytest.mark.parametrize("harm", ["flipped", "empty folder", "empty files", "missing file"])
def test_the_checkpoint_before_is_used_and_the_damaged_one_kept(run, harm, capsys):
    folder = run / "checkpoints" / "3"
    if harm == "flipped":
        flip(largest(folder), 500, 3)
    elif harm == "missing file":
        largest(folder).unlink()
    elif harm == "empty folder":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        for file in (path for path in folder.rglob("*") if path.is_file()):
            file.write_bytes(b"")
    with Checkpoints(run) as checkpoints:
        assert same(checkpoints.restore(abstract()), toy(2))
        assert checkpoints.latest_step == 2
        (line,) = capsys.readouterr().out.splitlines()
        aside = run / "checkpoints" / "3.damaged"
        assert line.startswith(f"CORRUPT CHECKPOINT: {folder} ")
        assert f"renamed to {aside}; using {folder.with_name('2')} instead" in line
        assert aside.is_dir()
        checkpoints.save(toy(3))
    assert same(restore(run), toy(3))
    assert newest(run).name == "3"
    flip(largest(folder), 500, 3)
    assert same(restore(run), toy(2))
    assert (run / "checkpoints" / "3.damaged2").is_dir()


def test_without_a_good_one_nothing_is_begun_anew(run):
    for step in "123":
        flip(largest(run / "checkpoints" / step), 400, 0)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint of .*/3 .*/2 .*/1 .*start a new run"):
            restore(run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["1", "2", "3"]


def test_reading_tools_name_the_damaged_one_and_another(run):
    assert same(load_params(run, abstract().params), toy(3).params)
    largest(run / "checkpoints" / "3").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoints/3 .*; another one is .*checkpoints/2"):
        load_params(run, abstract().params)
    assert same(load_params(run / "checkpoints" / "2", abstract().params), toy(2).params)


@pytest.mark.parametrize("name", ["20261201", "checkpoints/7"])
def test_the_name_of_a_run_may_be_a_number(run, tmp_path_factory, name):
    moved = tmp_path_factory.mktemp("moved") / name
    shutil.copytree(run, moved)
    (moved / "config.json").touch()
    wanted, expected = {"params": abstract().params}, toy(3).params
    assert same(load_params(moved, wanted["params"]), expected)
    assert same(load_params(moved / "checkpoints" / "2", wanted["params"]), toy(2).params)


def test_another_dtype_is_named_and_no_checkpoint_renamed(run):
    wanted = abstract()
    wanted.params["head"]["bias"] = wanted.params["head"]["bias"].update(dtype=jnp.float16)
    with Checkpoints(run) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.restore(wanted)
    assert "params/head/bias was saved as float32; this program expects float16" in str(caught.value)
    assert newest(run).name == "3"


def test_checkpoints_older_than_checksums_are_read(tmp_path, capsys):
    ocp.save((tmp_path / "checkpoints" / "7").absolute(), toy(7))
    assert same(restore(tmp_path), toy(7))
    assert "cannot be verified" in capsys.readouterr().out


def test_what_a_killed_process_leaves_is_no_checkpoint(run):
    folder = run / "checkpoints"
    shutil.copytree(folder / "3", folder / "9.orbax-checkpoint-tmp")
    assert newest(run) == folder / "3"
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest_step == 3
        checkpoints.restore(abstract())
        checkpoints.save(toy(3))  # is there already
        checkpoints.save(toy(9))
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "9"]


@contextmanager
def no_space():
    """Files cannot grow beyond 1000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_leaves_nothing(run):
    folder = run / "checkpoints"
    checkpoints = Checkpoints(run)
    message = f"checkpoint {folder}/4 could not be written: .*File too large.*; the last good checkpoint is {folder}/3"
    with no_space(), pytest.raises(CheckpointError, match=message) as error:
        checkpoints.save(toy(4))
        while True:
            checkpoints.check()
    assert len(str(error.value).splitlines()) == 1
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]
    with no_space(), pytest.raises(CheckpointError, match=message.replace("/4", "/5")):
        checkpoints.save(toy(5))
        checkpoints.save(toy(6))
    with Checkpoints(run) as again:
        again.save(toy(4))
    assert same(restore(run), toy(4))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_])
def test_a_checksum_depends_on_every_bit_and_place(dtype):
    values = np.arange(24).reshape(2, 3, 4)
    base = jnp.asarray(values % 2 if dtype == jnp.bool_ else values, dtype)
    (before,) = checksums({"x": base}).values()
    swapped = base.at[0, 0, 2].set(base[1, 0, 3]).at[1, 0, 3].set(base[0, 0, 2])
    for changed in (-base if dtype == jnp.float32 else ~base if dtype != jnp.bfloat16 else base * 2, swapped):
        assert checksums({"x": changed})["x"] != before

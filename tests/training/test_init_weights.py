"""Runs that start from existing weights: --config.init_from."""

import jax
import numpy as np
import pytest
from flax import nnx
from runs import finish, start
from toy import flat

import rmae_jax
from rmae_jax import export, interop
from rmae_jax.training import ConfigError, pretrain
from rmae_jax.training.init_weights import initial_model
from rmae_jax.training.recipe import check_resumed, save


@pytest.fixture
def source(config, tmp_path) -> rmae_jax.RMAE:
    """A model of the recipe with other weights than the recipe's seed gives."""
    return jax.jit(lambda: rmae_jax.RMAE(config.model, rngs=nnx.Rngs(9)))()


def test_a_run_starts_from_a_file_is_resumed_without_it_and_exported(config, command, source, tmp_path, capsys):
    """The whole way, through the commands: export, start, stop, resume, export again."""
    file = tmp_path / "start.safetensors"
    interop.write(source, file, "mae")
    frozen = {"base_lr": 0.0, "init_from": file, "steps": 3, "warmup_steps": 1, "log_every": 1}
    output = finish(command(tmp_path / "run", **frozen))
    assert f"weights from {file}; newly initialised: region branch" in output
    model, _ = rmae_jax.load(tmp_path / "run")
    ours, theirs = flat(model), flat(source)
    for name, value in ours.items():
        same = np.array_equal(value, theirs[name])
        assert same or not name.startswith(("encoder/", "decoder/", "pixel_head/")), name

    file.unlink()
    assert "is complete (3 steps)" in finish(command(tmp_path / "run", **frozen))

    flags = [f"--checkpoint={tmp_path / 'run'}", "--format=mae", f"--output={file}"]
    exported = finish(["-m", "rmae_jax.export", *flags])
    assert f"{file}: " in exported and "format mae" in exported
    found, wanted = interop.read(file), interop.to_torch(source, "mae")
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)

    # The rest of the command in this process: a string that it exits with is said on stderr, the status is 1.
    with pytest.raises(SystemExit, match=f"^error: {file} already exists"):
        export.main(flags)
    with pytest.raises(SystemExit, match="^2$"):
        export.main([flags[0], "--format=keras", "--output=x"])
    assert "invalid choice: 'keras'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="^error: .*is not a run folder"):
        export.main([f"--checkpoint={tmp_path}", flags[1], "--output=x.pth"])

    missing = start(command(tmp_path / "other", init_from=tmp_path / "nothing.pth"))
    output, _ = missing.communicate()
    assert missing.returncode == 1
    assert output.strip() == f"error: {tmp_path / 'nothing.pth'}: no such file"


def test_weights_of_smaller_images_are_interpolated_and_the_run_remembers(config, source, tmp_path):
    file = tmp_path / "small.safetensors"
    interop.write(source, file, "rmae")
    config.init_from, config.model.image_size = str(file), 64
    config.steps, config.warmup_steps, config.base_lr, config.checkpoint_every = 2, 1, 0.0, 1
    pretrain(config, tmp_path / "run")
    assert config.model.position_scale == 1.0
    model, saved = rmae_jax.load(tmp_path / "run")
    assert saved.model.position_scale == model.config.position_scale == 0.5
    assert all(np.array_equal(a, b) for a, b in zip(flat(model).values(), flat(source).values(), strict=True))
    file.unlink()
    for moved in (str(file), "elsewhere.safetensors", ""):  # the weights are in the checkpoint
        config.init_from = moved
        resumed, none = initial_model(config, tmp_path / "run")
        assert none is None
        assert resumed.to_dict() == saved.to_dict()
        check_resumed(resumed, tmp_path / "run")


def test_a_run_from_random_weights_is_not_resumed_with_others(config, tmp_path):
    save(config, tmp_path)
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    config.init_from = "weights.pth"
    with pytest.raises(ConfigError, match="another config .init_from  -> weights.pth."):
        check_resumed(initial_model(config, tmp_path)[0], tmp_path)


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(config, source, tmp_path):
    file = tmp_path / "other.safetensors"
    interop.write(source, file, "rmae")
    config.init_from, config.model.width = str(file), 64
    with pytest.raises(
        interop.InteropError, match=r"other.safetensors: .*\(model.width is 64, but 32 in the weights\)"
    ):
        pretrain(config, tmp_path / "run")
    config.model.num_heads = 5
    with pytest.raises(ConfigError, match="model.width 64 must be a multiple of 4 and of model.num_heads 5"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

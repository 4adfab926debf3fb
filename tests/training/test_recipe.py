import importlib
import json
import math
from pathlib import Path

import jax
import pytest
from flax import nnx

from configs import mae_b, rmae_b
from rmae_jax.model import RMAE
from rmae_jax.training import ConfigError, recipe

RECIPES = sorted(path.stem for path in Path("configs").glob("[!_]*.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_builds_and_has_the_keys_of_the_main_one(name):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    jax.eval_shape(lambda: nnx.state(RMAE(config.model, rngs=nnx.Rngs(0))))
    assert set(recipe.flat(config.to_dict())) == set(recipe.flat(rmae_b.get_config().to_dict()))
    assert f"--config=configs/{name}.py" in module.__doc__
    assert recipe.durations(config, 118_287).warmup_steps > 0


def test_epochs_are_turned_into_steps():
    config = rmae_b.get_config()
    assert recipe.durations(config, 118_287) == recipe.Durations(115_515, 9_626)
    config.steps, config.warmup_steps = 100, 10
    assert recipe.durations(config, 118_287) == recipe.Durations(100, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 100}, r"warm-up \(9626 steps\) must be shorter than the run \(100 steps\).*--config.warmup_steps"),
        ({"epochs": 0.0}, "the run is 0 steps long; give --config.steps or --config.epochs"),
    ],
)
def test_durations_that_cannot_be(changes, message):
    config = rmae_b.get_config()
    config.update(changes)
    with pytest.raises(ConfigError, match=message):
        recipe.durations(config, 118_287)


@pytest.mark.parametrize(
    ("changes", "devices", "message"),
    [
        ({"batch_size": 30}, 8, "batch_size 30 is not divisible by the 8 devices; for example --config.batch_size=32"),
        ({"batch_size": 0}, 1, "batch_size 0"),
        (
            {"batch_size": 32, "accumulation_steps": 3},
            8,
            "batch_size 32 is not divisible by the 8 devices times accumulation_steps 3; .*--config.batch_size=24",
        ),
        ({"accumulation_steps": 0}, 1, "accumulation_steps is 0; it must be at least 1"),
        ({"remat": "some"}, 1, "remat is 'some'; it must be one of none, attention, full"),
        ({"attention": "flash"}, 1, "attention is 'flash'; it must be one of auto, plain, kernel"),
        ({"blocks": "loop"}, 1, "blocks is 'loop'; it must be one of auto, scanned, unrolled"),
        ({"blocks": "unrolled", "remat": "full"}, 1, "takes the memory that remat and mesh.fsdp save"),
        ({"blocks": "unrolled", "mesh.fsdp": 2}, 8, "takes the memory that remat and mesh.fsdp save"),
        ({"mesh.fsdp": 3}, 8, "mesh.data -1 and mesh.fsdp 3 do not fit the 8 device"),
        ({"log_every": 0}, 1, "log_every is 0"),
        ({"base_lr": -1.0}, 1, "base_lr is -1.0; it must be a finite number, at least 0"),
        ({"weight_decay": math.nan}, 1, "weight_decay is nan; it must be a finite number, at least 0"),
        ({"seed": -1}, 1, "seed is -1; it must be 0 to 4294967295"),
        ({"seed": 5_000_000_000}, 1, "seed is 5000000000; it must be 0 to 4294967295"),
        ({"data.workers": -1}, 1, "data.workers is -1; it is a number of processes, or 0 for threads"),
        ({"data.region_sampling": "x"}, 1, "data.region_sampling is 'x'; it must be one of random, foreground"),
        ({"data.on_error": "ignore"}, 1, "data.on_error is 'ignore'; it must be error or skip"),
        ({"data.min_region_patches": 0}, 1, "data.min_region_patches is 0; it must be 1 to 196"),
        ({"data.min_region_patches": 197}, 1, "data.min_region_patches is 197; it must be 1 to 196"),
        ({}, 1, "data.path is empty.*python -m data_prep.*--config.data.path"),
    ],
)
def test_keys_that_do_not_fit_the_machine(changes, devices, message):
    config = rmae_b.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        recipe.check(config, devices)


def test_a_saved_recipe_comes_back_and_a_changed_one_is_refused(tmp_path):
    config = rmae_b.get_config()
    recipe.check_resumed(config, tmp_path)  # nothing there yet
    recipe.save(config, tmp_path)
    assert recipe.load(tmp_path).to_dict() == config.to_dict()
    config.log_every = 7  # does not touch what is learned
    recipe.check_resumed(config, tmp_path)
    config.base_lr, config.model.num_regions = 1.0, 4
    with pytest.raises(ConfigError, match=r"base_lr 0.0001 -> 1.0, model.num_regions 8 -> 4.*another --workdir"):
        recipe.check_resumed(config, tmp_path)


def test_a_run_goes_on_with_other_devices_and_one_older_than_such_keys_too(tmp_path):
    config = rmae_b.get_config()
    old = config.to_dict()
    for key in ("mesh", "accumulation_steps", "remat", "attention", "blocks"):
        del old[key]
    del old["data"]["on_error"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    config.mesh.fsdp, config.accumulation_steps, config.remat = 8, 4, "full"
    config.data.on_error, config.blocks = "skip", "scanned"
    recipe.check_resumed(config, tmp_path)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="is not a run folder: it has no config.json"):
        recipe.load(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ConfigError, match="config.json is not JSON"):
        recipe.load(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match="config.json is not JSON"):
        recipe.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="config.json is not a recipe: it is no JSON object"):
        recipe.load(tmp_path)


def test_mae_differs_from_rmae_by_its_objective_alone():
    ours, theirs = (recipe.flat(module.get_config().to_dict()) for module in (mae_b, rmae_b))
    assert {key for key in ours if ours[key] != theirs[key]} == {"model.objective"}

"""Every ablation builds, changes what its name says and nothing else, and takes a training step."""

import importlib
from pathlib import Path

import numpy as np
import optax
import pytest
from flax import nnx
from toy import random_weights

from configs import rmae_b
from rmae_jax import data
from rmae_jax.data import RegionFilter
from rmae_jax.model.shapes import abstract_model
from rmae_jax.training import pretrain, recipe
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.run_dataset import region_filter, region_layers
from rmae_jax.training.step import init_state, train_step

KEYS = {
    "mask_ratio": {"model.mask_ratio", "model.region_mask_ratio"},
    "region_mask_ratio": {"model.region_mask_ratio"},
    "separate_masks": {"model.separate_masks"},
    "regions": {"model.num_regions"},
    "variant": {"model.region_variant"},
    "direction": {"model.feeding_direction"},
    "loss_l2": {"model.region_loss"},
    "loss_background": {"model.background_weight"},
    "loss_lambda": {"model.region_loss_weight"},
    "sampling_no_small": {"data.min_region_patches"},
    "sampling_foreground": {"data.region_sampling"},
    "source": {"data.region_layers"},
    "neck": {"model.neck_depth"},
    "region_decoder": {"model.region_decoder_depth"},
}
TOY = {
    "batch_size": 4,
    "steps": 10,
    "warmup_steps": 0,
    "model.image_size": 32,
    "model.patch_size": 8,
    "model.width": 32,
    "model.depth": 1,
    "model.num_heads": 2,
    "model.decoder_width": 16,
    "model.decoder_depth": 1,
    "model.decoder_num_heads": 2,
    "model.region_width": 16,
    "model.region_num_heads": 2,
}
ABLATIONS = sorted(path.stem for path in Path("configs/ablations").glob("[!_]*.py"))


def ablation(name: str):
    return importlib.import_module(f"configs.ablations.{name}")


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_its_name_says(name):
    config = ablation(name).get_config()
    ours, theirs = (recipe.flat(c.to_dict()) for c in (config, rmae_b.get_config()))
    assert ours.keys() == theirs.keys()
    (group,) = (group for group in KEYS if name.startswith(group))
    assert {key for key in ours if ours[key] != theirs[key]} == KEYS[group]
    assert not KEYS[group] & TOY.keys()
    assert all(key.startswith(("model.", "data.")) for key in KEYS[group])
    assert f"--config=configs/ablations/{name}.py" in ablation(name).__doc__
    config.data.path = "anywhere"
    recipe.check(config, 1)


# Sources and the filter of small regions change no program; a test of the data shows what they do. Of ablations that
# set the same number, the most extreme ones take a step.
SAME_PROGRAM = ("source", "sampling_no_small", "mask_ratio_6", "mask_ratio_7", "mask_ratio_8", "region_mask_ratio_6")
SAME_PROGRAM += ("regions_02", "regions_04", "regions_16", "loss_lambda_050")


@pytest.mark.parametrize("name", [name for name in ABLATIONS if not name.startswith(SAME_PROGRAM)])
def test_an_ablation_takes_a_step(name):
    """No ablation changes the optimiser: AdamW would be half of what is compiled."""
    config = ablation(name).get_config()
    config.update_from_flattened_dict(TOY)
    mesh, optimizer = training_mesh(config), optax.sgd(0.1)
    rng, bits = np.random.default_rng(0), config.model.num_regions
    batch = {
        "images": rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
        "regions": rng.integers(0, 1 << bits, (4, 32, 32), np.uint32),
    }
    chosen = region_filter(config)
    if chosen is not None:
        batch["permutation"] = np.stack([chosen.draw_permutation(rng, 32) for _ in range(4)])
    graphdef, shapes = abstract_model(config.model)
    model = nnx.merge(graphdef, random_weights(shapes))
    state = init_state(config, optimizer, mesh, model)
    state, losses = train_step(config, optimizer, mesh)(state, to_devices(batch, mesh))
    assert int(state.step) == 1
    assert all(np.isfinite(value) for value in losses.values())
    assert losses.keys() == {"loss", "pixel_loss", "region_loss"}


def test_keys_of_the_data_become_what_the_data_takes():
    assert region_layers(ablation("source_fh_1000").get_config()) == ["fh_1000"]
    config = rmae_b.get_config()
    assert region_layers(config) == []
    config.data.region_layers = "fh_500, fh_1000,fh_500"
    assert region_layers(config) == ["fh_500", "fh_1000"]
    assert region_filter(rmae_b.get_config()) is None
    small, foreground = (region_filter(ablation(f"sampling_{n}").get_config()) for n in ("no_small", "foreground"))
    assert (small.patch_size, small.min_patches, small.num_visible) == (16, 2, None)
    assert (foreground.patch_size, foreground.min_patches, foreground.num_visible) == (16, 1, 49)


def test_a_run_reads_what_the_keys_of_the_data_say(config, tmp_path, monkeypatch):
    """Up to the stream of batches: what is drawn from it is tested with the data."""
    asked = {}

    class Asked(Exception):
        pass

    def pictures(source, *arguments, **options):
        asked["pictures"] = source.region_layers
        return center_examples(source, *arguments, **options)

    def batches(source, region_filter, **options):
        asked["training"] = source.region_layers, region_filter
        raise Asked

    center_examples = data.center_examples
    monkeypatch.setattr(data, "center_examples", pictures)
    monkeypatch.setattr(data, "batches", batches)
    changes = {"region_layers": "fh_100", "region_sampling": "foreground", "min_region_patches": 2}
    config.data.update(changes)
    with pytest.raises(Asked):
        pretrain(config, tmp_path / "run")
    assert asked == {"pictures": ("fh_100",), "training": (("fh_100",), RegionFilter(8, 2, 4))}


def test_a_step_masks_the_patches_that_the_data_chose():
    config = ablation("sampling_foreground").get_config()
    config.update_from_flattened_dict(TOY)
    mesh, optimizer = training_mesh(config), optax.sgd(0.0)
    rng = np.random.default_rng(0)
    batch = {
        "images": rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
        "regions": rng.integers(0, 256, (4, 32, 32), np.uint8),
        "permutation": rng.permuted(np.tile(np.arange(16, dtype=np.int32), (4, 1)), axis=1),
    }
    step, state, losses = train_step(config, optimizer, mesh), init_state(config, optimizer, mesh), []
    for permutation in (batch["permutation"], batch["permutation"], batch["permutation"][:, ::-1]):
        state, found = step(state, to_devices(batch | {"permutation": permutation.copy()}, mesh))
        losses.append((found["pixel_loss"], found["region_loss"]))
    assert losses[0] == losses[1]  # the steps' own draws would differ
    assert losses[0][0] != losses[2][0] and losses[0][1] != losses[2][1]

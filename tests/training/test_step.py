import jax
import numpy as np
import pytest

from rmae_jax import data
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.recipe import Durations
from rmae_jax.training.step import init_state, train_step


def setting(config, dataset):
    """A mesh, an initial state, a step function and a batch."""
    mesh = training_mesh(config)
    optimizer = adamw(config, Durations(40, 0))
    batches = data.batches(
        data.TFRecordSource(dataset, "train"),
        seed=0,
        batch_size=config.batch_size,
        image_size=config.model.image_size,
        num_regions=config.model.num_regions,
    )
    batch = next(batches)
    batches.close()
    return init_state(config, optimizer, mesh), train_step(config, optimizer, mesh), to_devices(batch, mesh)


def arrays(tree) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def test_one_step_changes_every_parameter_and_can_be_repeated_bit_for_bit(config, dataset):
    config.base_lr = 0.1
    state, step, batch = setting(config, dataset)
    before = arrays(state.params)
    after, losses = step(state, batch)
    assert int(after.step) == 1
    assert all(np.isfinite(value) for value in losses.values())
    assert np.allclose(losses["loss"], losses["pixel_loss"] + losses["region_loss"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(after.params):
        assert np.isfinite(leaf).all(), path
    assert all((a != b).any() for a, b in zip(before, arrays(after.params), strict=True))
    with pytest.raises(RuntimeError, match="deleted"):
        np.array(state.params["pixel_head"]["bias"])  # its memory was given to the new state

    again, repeated = step(setting(config, dataset)[0], batch)
    assert repeated == losses
    assert all(np.array_equal(a, b) for a, b in zip(arrays(again), arrays(after), strict=True))


def test_masks_differ_from_step_to_step(config, dataset):
    config.base_lr = 0.0
    state, step, batch = setting(config, dataset)
    state, first = step(state, batch)
    state, second = step(state, batch)
    assert first["loss"] != second["loss"]  # the same weights and batch, other patches


def test_both_losses_fall_on_one_batch(config, dataset):
    config.base_lr = 0.1
    state, step, batch = setting(config, dataset)
    losses = []
    for _ in range(40):
        state, values = step(state, batch)
        losses.append((float(values["pixel_loss"]), float(values["region_loss"])))
    assert np.mean(losses[-5:], axis=0)[0] < 0.9 * losses[0][0]
    assert np.mean(losses[-5:], axis=0)[1] < 0.8 * losses[0][1]

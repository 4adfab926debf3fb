"""Meshes of eight devices in one process of their own, against one device in this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import eight_devices
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from configs import rmae_b
from rmae_jax.training.checkpoints import Checkpoints
from rmae_jax.training.recipe import ConfigError, mesh_shape
from rmae_jax.training.sharding import split_dimension


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory) -> Path:
    """What eight_devices.py leaves."""
    folder = tmp_path_factory.mktemp("eight")
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join([".", "tests", os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.run(
        [sys.executable, eight_devices.__file__, folder], env=environment, capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def on_one():
    """The same steps on one device: (abstract state, step, batch), then twice as many losses, and the parameters."""
    abstract, state, step, batch = eight_devices.start(eight_devices.toy_recipe(), eight_devices.toy_batch())
    state, losses = eight_devices.train(state, step, batch)
    params = eight_devices.named(state.params)
    again = eight_devices.train(state, step, batch)
    return (abstract, step, batch), losses, params, again


@pytest.mark.parametrize("name", eight_devices.MESHES)
def test_every_mesh_learns_what_one_device_does(on_eight, on_one, name):
    """With accumulation and rematerialisation on some. Adam makes large steps of tiny gradients, and so of rounding."""
    _, losses, params, _ = on_one
    theirs = np.load(on_eight / f"{name}.npz")
    assert np.allclose(losses, theirs["losses"], rtol=1e-5)
    assert theirs.keys() == params.keys() | {"losses"}
    for key, value in params.items():
        assert np.allclose(value, theirs[key], atol=2e-4), key


def test_a_state_is_split_and_small(on_eight):
    found = json.loads((on_eight / "found.json").read_text())
    specs = found["fsdp"]["specs"]
    assert specs["encoder/blocks/mlp/fc1/kernel"] == str(PartitionSpec(None, "fsdp", None))  # layers stay together
    assert specs["decoder/blocks/last/attention/qkv/kernel"] == str(PartitionSpec("fsdp", None))
    whole = str(PartitionSpec())
    assert specs["encoder/blocks/mlp/fc1/bias"] == specs["encoder/cls_token"] == whole
    assert specs["region_decoder/expansion/value/kernel"] == whole  # 8 does not divide 12
    assert set(found["data"]["specs"].values()) == {whole}
    for ours, theirs in zip(found["fsdp"]["bytes"], found["data"]["bytes"], strict=True):
        assert ours < 0.25 * theirs  # what stays whole weighs little, even here


def test_only_parameters_and_their_gradients_travel(on_eight):
    """A compiler that is left to itself may gather activations; here, every gathered shape is that of a parameter."""
    found = json.loads((on_eight / "found.json").read_text())
    weights = {shape[-2:] for shape in (np.load(on_eight / "fsdp.npz")[k].shape for k in found["fsdp"]["specs"])}
    per_mesh = {name: found[name]["collectives"] for name in eight_devices.MESHES}
    counts = {name: {} for name in per_mesh}
    for name, collectives in per_mesh.items():
        for kind, shape in collectives:
            counts[name][kind] = counts[name].get(kind, 0) + 1
            assert kind in ("all-gather", "reduce-scatter", "all-reduce"), (name, kind, shape)
            if kind == "all-gather":
                assert tuple(shape) in weights, (name, shape)
    assert counts["data"] == {"all-reduce": 1}  # of all gradients together
    assert counts["fsdp"]["all-reduce"] == 1  # of what is whole, and the losses
    split = [spec for spec in found["fsdp"]["specs"].values() if "fsdp" in spec]
    # Once for the forward and once for the backward pass (for a few, one is enough), whatever the number of layers.
    assert len(split) <= counts["fsdp"]["all-gather"] <= 2 * len(split) + 4
    assert counts["fsdp"]["reduce-scatter"] >= len(split) - 4


def test_a_checkpoint_goes_on_any_mesh(on_eight, on_one):
    """8 x 1, then 1 x 8, then one device."""
    found = json.loads((on_eight / "found.json").read_text())
    assert found["restored"] == [True, True]  # in place, and equal
    (abstract, step, batch), _, _, (state, losses) = on_one
    resumed = np.load(on_eight / "resumed.npz")
    assert np.allclose(losses, resumed["losses"], rtol=1e-4)
    with Checkpoints(on_eight / "run") as checkpoints:
        assert checkpoints.latest_step == 2 * eight_devices.STEPS
        restored = checkpoints.restore(abstract)
    for key, value in eight_devices.named(restored.params).items():
        assert np.array_equal(value, resumed[key]), key
    (_, expected), (_, after) = eight_devices.train(state, step, batch), eight_devices.train(restored, step, batch)
    assert np.allclose(after, expected, rtol=1e-3)


def test_dimensions_that_are_split():
    assert split_dimension("kernel", (12, 768, 3072), 8) == -2
    assert split_dimension("kernel", (768, 3072), 1) is None
    assert split_dimension("kernel", (12, 3072), 8) is None
    assert split_dimension("bias", (12, 768), 4) is None


@pytest.mark.parametrize(("data", "fsdp", "shape"), [(-1, 1, (8, 1)), (-1, 8, (1, 8)), (4, -1, (4, 2)), (2, 4, (2, 4))])
def test_shapes_of_a_mesh(data, fsdp, shape):
    config = rmae_b.get_config()
    config.mesh.data, config.mesh.fsdp = data, fsdp
    assert mesh_shape(config, 8) == shape


@pytest.mark.parametrize(
    ("data", "fsdp", "message"),
    [
        (-1, 3, r"mesh.data -1 and mesh.fsdp 3 do not fit the 8 device\(s\)"),
        (2, 2, r"mesh.data 2 and mesh.fsdp 2 do not fit the 8 device\(s\)"),
        (-1, 16, "mesh.fsdp 16"),
        (16, -1, "mesh.data 16"),
        (0, 1, "mesh.data is 0"),
        (1, -2, "mesh.fsdp is -2"),
        (-1, -1, "both -1"),
    ],
)
def test_meshes_that_do_not_fit(data, fsdp, message):
    config = rmae_b.get_config()
    config.mesh.data, config.mesh.fsdp = data, fsdp
    with pytest.raises(ConfigError, match=message):
        mesh_shape(config, 8)

"""The command, with a step compiled for TPUs that are not here; its numbers against formulas."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rmae_jax.readiness import topologies
from rmae_jax.readiness.chips import CHIPS, GIB

TOY = {
    "batch_size": 64,
    "model.objective": "mae",
    "model.image_size": 16,
    "model.patch_size": 8,
    "model.width": 32,
    "model.depth": 3,
    "model.num_heads": 2,
    "model.decoder_width": 16,
    "model.decoder_depth": 2,
    "model.decoder_num_heads": 2,
}


def needs_libtpu() -> None:
    """Skips where the compiler is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install -e .[tpu]")


def command(*arguments: str) -> subprocess.CompletedProcess:
    """Runs python -m rmae_jax.readiness on a toy."""
    changes = [f"--config.{key}={value}" for key, value in TOY.items()]
    return subprocess.run(
        [sys.executable, "-m", "rmae_jax.readiness", "--config=configs/rmae_b.py", *changes, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_for_tpus(program: str) -> None:
    """Runs a program in the environment in which topologies are compiled for."""
    environment = os.environ | topologies.ENVIRONMENT
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[list[dict], str, Path]:
    """Rows, what was printed and the folder."""
    needs_libtpu()
    folder = tmp_path_factory.mktemp("ready")
    process = command("--topology=v5e:2x2", "--num_examples=256", f"--output={folder}")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return json.loads((folder / "readiness.json").read_text()), process.stdout, folder


def parameters() -> int:
    """Of the toy: 12 d² + 13 d per block, a norm after each stack, tokens and what leads in, over and out."""
    wide, narrow, pixels = 32, 16, 3 * 8 * 8
    stacks = sum(depth * (12 * d**2 + 13 * d) + 2 * d for depth, d in ((3, wide), (2, narrow)))
    return stacks + wide + narrow + (pixels + 1) * wide + (wide + 1) * narrow + (narrow + 1) * pixels


def test_a_row_says_what_formulas_say(compiled):
    row = compiled[0][0]
    assert (row["chips"], row["hosts"], row["mesh"], row["fits"]) == (4, 1, [4, 1], True)
    assert row["num_params"] == parameters()
    assert row["params"] == 4 * parameters()
    assert row["optimizer"] == 8 * parameters() + 2 * 4  # two moments, and two counters
    assert row["batch"] == 16 * 16 * 16 * 3
    # Data parallelism: one sum of all gradients and the losses, in float32.
    assert row["collectives"].keys() == {"all-reduce"}
    summed = row["collectives"]["all-reduce"]
    assert summed["count"] == 1
    assert 4 * parameters() < summed["bytes"] <= 4 * parameters() + 3 * 4
    assert summed["sent"] == pytest.approx(summed["bytes"] * 2 * 3 / 4, abs=1)
    assert row["memory"]["arguments"] >= row["params"] + row["optimizer"] + row["batch"]
    assert row["memory"]["peak"] < 16 * GIB
    assert row["seconds"]["compute"] == row["cycles"] / CHIPS["v5e"].clock
    assert row["seconds"]["step"] == row["seconds"]["compute"] + row["seconds"]["links"]
    assert 0 < row["mfu"] < 1
    assert row["kernels"] == 2 * (3 + 2)  # attention of each block, forward and backward
    assert row["steps"] == 4000 * 4


def test_what_does_not_fit_is_a_row_with_advice(tmp_path):
    needs_libtpu()
    process = command("--topology=v5e:1x1", "--config.batch_size=16777216", f"--output={tmp_path}")
    assert process.returncode == 0, process.stderr
    (row,) = json.loads((tmp_path / "readiness.json").read_text())
    assert (row["chips"], row["fits"]) == (1, False)
    assert row["needed"] > row["available"]
    assert 15 * GIB < row["available"] <= 16 * GIB
    assert any("--config.accumulation_steps=" in line for line in row["advice"])
    assert "v5e:1x1: does not fit" in process.stdout
    assert "DOES NOT FIT" in process.stdout


def test_the_table_is_printed_and_saved(compiled):
    rows, printed, folder = compiled
    text = (folder / "readiness.md").read_text()
    assert printed.endswith(text)
    assert "v5e:2x2: compiled in" in printed
    assert "| 1 all-reduce: " in text
    assert rows[0]["versions"].keys() == {"jax", "libtpu"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x2"], "error: topology 'v9:2x2' is unknown; give CHIP:SHAPE"),
        (["--topology=v5e:2x2", "--config.batch_size=10"], "error: batch_size 10 is not divisible by the 4 devices"),
    ],
)
def test_errors_are_one_line(arguments, message):
    needs_libtpu()
    process = command(*arguments)
    assert process.returncode == 1
    assert process.stderr.startswith(message)
    assert process.stderr.count("\n") == 1


def test_gpus_have_no_cycles(tmp_path):
    """Skipped where the plugin is not installed; it is large."""
    if importlib.util.find_spec("jax_cuda13_plugin") is None:
        pytest.skip("the CUDA plugin is not installed: pip install -e .[cuda]")
    process = command("--topology=h100:8", f"--output={tmp_path}")
    assert process.returncode == 0, process.stderr
    (row,) = json.loads((tmp_path / "readiness.json").read_text())
    assert (row["fits"], row["cycles"], row["at_most"], row["seconds"]["step"]) == (True, None, True, None)
    assert row["collectives"].keys() == {"all-reduce"}
    assert row["memory"]["arguments"] >= row["params"] + row["optimizer"] + row["batch"]
    assert "| not given" in process.stdout


def test_blocks_are_unrolled_where_memory_is_not_short():
    """On TPUs; a loop elsewhere, for encoder and decoder, forward and backward."""
    needs_libtpu()
    program = """
from configs import rmae_b
from rmae_jax.readiness import topologies
from rmae_jax.readiness.compiled_step import abstract_batch, for_accelerator
from rmae_jax.training.recipe import Durations
from rmae_jax.training.mesh import training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.step import abstract_state, train_step
devices = topologies.devices(topologies.parse("v5e:2x2"))
for changes, loops in (({}, 0), ({"remat": "full"}, 4), ({"mesh.fsdp": 4}, 4), ({"blocks": "scanned"}, 4)):
    config = for_accelerator(rmae_b.get_config())
    config.update_from_flattened_dict({"batch_size": 16} | changes)
    mesh, optimizer = training_mesh(config, devices), adamw(config, Durations(9, 1))
    state, batch = abstract_state(config, optimizer, mesh), abstract_batch(config, mesh)
    lowered = train_step(config, optimizer, mesh).trace(state, batch).lower().as_text()
    assert lowered.count("stablehlo.while") == loops, changes
"""
    run_for_tpus(program)


def test_each_host_of_a_slice_has_its_rows_of_a_batch_in_one_piece():
    """On TPUs, JAX's own meshes have not: a host would not know which rows to read."""
    needs_libtpu()
    program = """
from configs import rmae_b
from rmae_jax.readiness import topologies
from rmae_jax.training.mesh import training_mesh
config = rmae_b.get_config()
for name in ("v5e:4x4", "v5p:2x2x4", "v6e:8x8"):
    for config.mesh.fsdp in (1, 4, 16):
        mesh = training_mesh(config, topologies.devices(topologies.parse(name)))
        hosts = [device.process_index for device in mesh.devices.flat]
        assert hosts == sorted(hosts) and mesh.shape["fsdp"] == config.mesh.fsdp, (name, hosts)
"""
    run_for_tpus(program)

"""A process of eight devices: steps on meshes of several shapes, and their collectives. See test_sharding.py.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python eight_devices.py FOLDER

Writes FOLDER/NAME.npz (losses of each step, the parameters at the end) for each mesh, FOLDER/found.json, and a
checkpoint in FOLDER/run that went from 8 x 1 to 1 x 8.
"""

import json
import re
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np
from tracing import collect_less_garbage, skip_discarded_messages

from configs import rmae_tiny
from rmae_jax.training.checkpoints import Checkpoints
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.recipe import Durations
from rmae_jax.training.step import TrainState, abstract_state, init_state, train_step

BATCH, STEPS = 16, 3
# No width equals another, so that a collective's shape tells what it moves; 8 divides all but region_width.
TOY = {
    "batch_size": BATCH,
    "base_lr": 0.02,
    "model.image_size": 16,
    "model.patch_size": 4,
    "model.width": 64,
    "model.depth": 3,
    "model.num_heads": 4,
    "model.decoder_width": 32,
    "model.decoder_depth": 2,
    "model.decoder_num_heads": 4,
    "model.region_width": 12,
    "model.region_decoder_depth": 2,
    "model.region_num_heads": 2,
    "model.num_regions": 3,
}
MESHES = {
    "fsdp": {"mesh.fsdp": 8},
    "data": {"mesh.data": 8, "remat": "full"},
    "unrolled": {"mesh.data": 8, "attention": "kernel", "blocks": "unrolled"},
    "both": {"mesh.data": 4, "mesh.fsdp": 2, "accumulation_steps": 2, "remat": "attention"},
}


def toy_recipe(**changes) -> ml_collections.ConfigDict:
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict(TOY | changes)
    return config


def toy_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (BATCH, 16, 16, 3), np.uint8),
        "regions": rng.integers(0, 8, (BATCH, 16, 16), np.uint8),
    }


def start(config: ml_collections.ConfigDict, batch: dict[str, np.ndarray], initial: TrainState | None = None):
    """A state's abstract value, the state, the compiled step and its batch, placed; `initial` saves a compilation."""
    mesh, optimizer = training_mesh(config), adamw(config, Durations(100, 0))
    batch, abstract = to_devices(batch, mesh), abstract_state(config, optimizer, mesh)
    if initial is None:
        state = init_state(config, optimizer, mesh)
    else:
        state = jax.device_put(initial, jax.tree.map(lambda x: x.sharding, abstract))
    return abstract, state, train_step(config, optimizer, mesh).lower(abstract, batch).compile(), batch


def train(state: TrainState, step, batch) -> tuple[TrainState, list[float]]:
    losses = []
    for _ in range(STEPS):
        state, found = step(state, batch)
        losses.append([float(found[name]) for name in sorted(found)])
    return state, losses


def named(params) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def collectives(hlo: str) -> list[tuple[str, list[int]]]:
    """Every collective of an optimised program: its name, and the largest shape of its result."""
    names = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    found = []
    for result, name in re.findall(rf"= (.*?) ({names})(?:-start)?\(", hlo):
        shapes = [[int(n) for n in dims.split(",") if n] for dims in re.findall(r"\w+\[([\d,]*)\]", result)]
        found.append((name, max(shapes, key=np.prod)))
    return found


def local_bytes(tree) -> int:
    """What the first device holds of a tree."""
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def main(folder: Path) -> None:
    """Trains on each mesh; then a checkpoint of "data" goes on "fsdp"."""
    found, last, initial = {}, None, None
    for name, changes in MESHES.items():
        abstract, state, step, batch = start(toy_recipe(**changes), toy_batch(), initial)
        if initial is None:
            initial = jax.device_get(state)
        found[name] = {
            "collectives": collectives(step.as_text()),
            "bytes": [local_bytes(tree) for tree in (state.params, state.opt_state)],
            "specs": {k: str(v) for k, v in named(jax.tree.map(lambda x: str(x.sharding.spec), state.params)).items()},
        }
        state, losses = train(state, step, batch)
        np.savez(folder / f"{name}.npz", losses=losses, **named(state.params))
        if name == "fsdp":
            split_abstract, split_step, split_batch = abstract, step, batch
        if name == "data":
            last = state
    with Checkpoints(folder / "run") as checkpoints:
        checkpoints.save(last)
    with Checkpoints(folder / "run") as checkpoints:
        restored = checkpoints.restore(split_abstract)
    in_place = jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, split_abstract)
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b), restored, last)
    found["restored"] = [all(jax.tree.leaves(tree)) for tree in (in_place, equal)]
    state, losses = train(restored, split_step, split_batch)
    np.savez(folder / "resumed.npz", losses=losses, **named(state.params))
    with Checkpoints(folder / "run") as checkpoints:
        checkpoints.save(state)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    skip_discarded_messages()
    collect_less_garbage()
    main(Path(sys.argv[1]))

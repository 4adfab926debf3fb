"""What regions cost: seconds of a training step of R-MAE over MAE's, and of the factored expansion over the plain one.

    python -m benchmarks.region_cost [--rounds=5] [--batch=16]

Steps are those of configs/rmae_b.py (ViT-B/16, forward, backward, AdamW) on random pixels and regions, run in turns in
this process on all of its devices. The expansion is forward and backward of the region decoder's first layer over all
pairs of K = 8 queries and 147 masked patches, of 64 images.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs import rmae_b
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.region_queries import linear_of_normed_sum
from rmae_jax.training.config import Durations
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.step import init_state, train_step


def training_step(batch_size: int, **changes) -> Callable[[], None]:
    """A function that runs one training step and waits for it."""
    config = rmae_b.get_config()
    config.batch_size = batch_size
    config.model.update(changes)
    mesh, optimizer = training_mesh(config), adamw(config, Durations(1000, 10))
    rng, side = np.random.default_rng(0), config.model.image_size
    batch = {
        "images": rng.integers(0, 256, (batch_size, side, side, 3), np.uint8),
        "regions": rng.integers(0, 256, (batch_size, side, side), np.uint8),
    }
    batch = to_devices(batch, mesh)
    state, step = init_state(config, optimizer, mesh), train_step(config, optimizer, mesh)

    def run() -> None:
        nonlocal state
        state, losses = step(state, batch)
        jax.block_until_ready(losses)

    return run


def expansion(form: Callable) -> Callable[[], None]:
    """A function that runs one formulation of linear(norm(q + v)), forward and backward, and waits for it."""
    options = {"dtype": jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16"), "rngs": nnx.Rngs(0)}
    modules = Linear(128, 128, **options), LayerNorm(128, **options)
    q, v = (jax.random.normal(jax.random.key(i), (64, n, 128), options["dtype"]) for i, n in enumerate((8, 147)))
    grad = jax.jit(jax.grad(lambda args: (form(*args).astype(jnp.float32) ** 2).mean()))
    return lambda: jax.block_until_ready(grad((*modules, q, v)))


def plain(linear: nnx.Linear, norm: nnx.LayerNorm, queries: jax.Array, values: jax.Array) -> jax.Array:
    """The formula as the paper has it."""
    return linear(norm(queries[:, :, None] + values[:, None]))


def compare(runs: dict[str, Callable[[], None]], rounds: int, repeats: int) -> None:
    """Runs them in turns; prints medians, and the ratio of each to the first, round by round."""
    for run in runs.values():
        run()  # compiles
    seconds = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            seconds[name].append((time.perf_counter() - start) / repeats)
    first = np.array(next(iter(seconds.values())))
    for name, values in seconds.items():
        ratios = np.array(values) / first
        rounds_ = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:24s} {np.median(values) * 1000:9.1f} ms   ratio {np.median(ratios):.3f} ({rounds_})", flush=True)


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    compare({"expansion, plain": expansion(plain), "expansion, factored": expansion(linear_of_normed_sum)}, 9, 5)
    steps = {
        "MAE": training_step(arguments.batch, objective="mae"),
        "R-MAE, K = 8, neck of 1": training_step(arguments.batch),
        "R-MAE, K = 8, neck of 8": training_step(arguments.batch, neck_depth=8),
    }
    compare(steps, arguments.rounds, 1)


if __name__ == "__main__":
    main()

"""Time of the factored expansion in the region decoder's first layer, as a ratio to the plain form.

    python -m benchmarks.expansion_block [--rounds=9]

Runs the forward and backward pass of that layer over all pairs of K = 8 queries and 147 masked patches, for 64 images.
Both forms run in turns in this process.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.region_query_decoder import linear_of_normed_sum


def expansion(form: Callable) -> Callable[[], None]:
    """Returns a function that runs one form of linear(norm(q + v)), forward and backward, and waits for it."""
    options = {"dtype": jnp.dtype("float32" if jax.default_backend() == "cpu" else "bfloat16"), "rngs": nnx.Rngs(0)}
    modules = Linear(128, 128, **options), LayerNorm(128, **options)
    q, v = (jax.random.normal(jax.random.key(i), (64, n, 128), options["dtype"]) for i, n in enumerate((8, 147)))
    grad = jax.jit(jax.grad(lambda args: (form(*args).astype(jnp.float32) ** 2).mean()))
    return lambda: jax.block_until_ready(grad((*modules, q, v)))


def plain(linear: nnx.Linear, norm: nnx.LayerNorm, queries: jax.Array, values: jax.Array) -> jax.Array:
    """Computes the expansion by the paper's formula."""
    return linear(norm(queries[:, None] + values[:, :, None]))


def compare(runs: dict[str, Callable[[], None]], rounds: int, repeats: int) -> None:
    """Times functions in turns; prints their medians, and each round's ratio to the first function."""
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
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    compare({"plain": expansion(plain), "factored": expansion(linear_of_normed_sum)}, parser.parse_args().rounds, 5)


if __name__ == "__main__":
    main()

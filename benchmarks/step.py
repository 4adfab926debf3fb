"""Time, memory and compilation of a training step, compared with PyTorch's step, MAE's step and the machine's limit.

    python -m benchmarks.step [--batch=16] [--rounds=5] [--no_torch_compile]

Each side is a separate process that runs the forward pass, the backward pass and AdamW of a ViT-B/16 in float32 on
random pixels. The sides run one at a time, in turns: ours (configs/mae_b.py and rmae_b.py with K = 8, necks of 1 and 8)
and transformers' ViTMAEForPreTraining with torch.optim.AdamW(fused=True), eager and with torch.compile. "products" is a
large matrix product, whose rate is the machine's roofline for a step's products.

Prints medians, each round's ratio to the first side of its table, images per second, FLOPs per image, the share of the
roofline, the peak memory of each process, and by how many seconds its first step was slower than the median step.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import ml_collections
import numpy as np

from configs import rmae_b

OURS = {
    "MAE": {"objective": "mae"},
    "R-MAE, neck 1": {"neck_depth": 1},
    "R-MAE, neck 8": {"neck_depth": 8},
}
PRODUCT = (4096, 3072, 768)  # rows, columns and depth of the product that measures the roofline


def recipe(changes: dict) -> ml_collections.ConfigDict:
    """Returns configs/rmae_b.py with changes to `config.model`."""
    config = rmae_b.get_config()
    config.model.update(changes)
    return config


def ours(batch: int, changes: dict) -> Callable[[], None]:
    """Returns a function that runs one step of rmae-jax and waits for it."""
    from rmae_jax.runtime.allocator import keep_freed_memory

    keep_freed_memory()
    import jax

    from rmae_jax.training.mesh import to_devices, training_mesh
    from rmae_jax.training.optimizer import adamw
    from rmae_jax.training.recipe import Durations
    from rmae_jax.training.step import init_state, train_step

    config = recipe(changes)
    config.batch_size = batch
    mesh, optimizer = training_mesh(config), adamw(config, Durations(1000, 10))
    rng, side = np.random.default_rng(0), config.model.image_size
    data = {"images": photographs(batch, side), "regions": rng.integers(0, 256, (batch, side, side), np.uint8)}
    data, state = to_devices(data, mesh), init_state(config, optimizer, mesh)
    step = train_step(config, optimizer, mesh)

    def run() -> None:
        nonlocal state
        state, losses = step(state, data)
        jax.block_until_ready(losses)

    return run


def pytorch(batch: int, compiled: bool) -> Callable[[], None]:
    """Returns a function that runs one step of transformers' MAE."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    from rmae_jax.model.image_normalization import IMAGENET_MEAN, IMAGENET_STD

    torch.set_num_threads(os.cpu_count())
    model = ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True))  # the defaults are those of ViT-B/16
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    images = torch.from_numpy(photographs(batch, 224).transpose(0, 3, 1, 2).copy())
    mean, std = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))

    def loss() -> torch.Tensor:
        return model((images.float() / 255 - mean) / std).loss

    forward = torch.compile(loss) if compiled else loss

    def run() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    return run


def product(library: str) -> Callable[[], None]:
    """Returns a function that multiplies two matrices 20 times."""
    rows, columns, depth = PRODUCT
    a, b = (np.random.default_rng(0).random(shape, np.float32) for shape in ((rows, depth), (depth, columns)))
    if library == "torch":
        import torch

        torch.set_num_threads(os.cpu_count())
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: [a @ b for _ in range(20)]
    import jax

    multiply = jax.jit(lambda a, b: a @ b)
    a, b = jax.device_put(a), jax.device_put(b)
    return lambda: [multiply(a, b).block_until_ready() for _ in range(20)]


SIDES = {"ours": ours, "pytorch": pytorch}


def photographs(batch: int, side: int) -> np.ndarray:
    """Returns random pixels, uint8 (B, S, S, 3)."""
    return np.random.default_rng(1).integers(0, 256, (batch, side, side, 3), np.uint8)


def serve(kind: str, batch: int, options: str) -> None:
    """Serves as a side's process: for every line on stdin, runs once and prints its seconds and peak memory."""
    run = product(options) if kind == "product" else SIDES[kind](batch, json.loads(options))
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]), flush=True)


class Side:
    """A process that runs its step or product once per call."""

    def __init__(self, kind: str, batch: int, options: str):
        command = [sys.executable, "-m", "benchmarks.step", "--side", kind, options, "--batch", str(batch)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: list[float] = []
        self.first = self()[0]

    def __call__(self) -> tuple[float, int]:
        """Runs once; returns (seconds, bytes of the process's peak memory)."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"error: {' '.join(self._process.args)} ended with {self._process.wait()}")
        seconds, self.peak = json.loads(answer)
        return seconds, self.peak

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def compare(sides: dict[str, Side], rounds: int) -> None:
    """Runs the sides in turns and records their seconds."""
    for _ in range(2):  # PyTorch's second and third steps are slower than the others
        for side in sides.values():
            side()
    for _ in range(rounds):
        for side in sides.values():
            side.seconds.append(side()[0])


def table(sides: dict[str, Side], flops: dict[str, float], batch: int, rate: float) -> None:
    """Prints a table of the sides; ratios are to the seconds of the first side."""
    print("| | s | ratio to first | rounds | images/s | GFLOP per image | of the roofline | peak GB | compilation, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    first = np.array(next(iter(sides.values())).seconds)
    for name, side in sides.items():
        seconds = np.array(side.seconds)
        median, ratios = np.median(seconds), seconds / first
        work = flops.get(name, flops["MAE"])
        print(
            f"| {name} | {median:.3f} | {np.median(ratios):.3f} | {ratios.min():.3f}-{ratios.max():.3f} "
            f"| {batch / median:.2f} | {work / 1e9:.2f} | {work * batch / median / rate:.0%} | {side.peak / 1e9:.2f} "
            f"| {side.first - median:.1f} |",
            flush=True,
        )


def main() -> None:
    """Prints the roofline, and the tables against PyTorch and against MAE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no_torch_compile", action="store_true")
    parser.add_argument("--side", nargs=2, metavar=("KIND", "OPTIONS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batch = arguments.batch
    if arguments.side:
        return serve(arguments.side[0], batch, arguments.side[1])

    rows, columns, depth = PRODUCT
    products = {library: Side("product", batch, library) for library in ("jax", "torch")}
    compare(products, arguments.rounds)
    rates = {name: 20 * 2 * rows * columns * depth / np.median(side.seconds) for name, side in products.items()}
    print("products: " + ", ".join(f"{rate / 1e9:.0f} GFLOP/s by {name}" for name, rate in rates.items()) + "\n")
    for side in products.values():
        side.close()

    from benchmarks.recipe_sizes import count

    flops = {name: count(recipe(changes))[0] for name, changes in OURS.items()}  # traced, not run

    against_pytorch = {"PyTorch": ("pytorch", "false"), "PyTorch, compiled": ("pytorch", "true")}
    if arguments.no_torch_compile:
        del against_pytorch["PyTorch, compiled"]
    against_pytorch["MAE"] = ("ours", json.dumps(OURS["MAE"]))
    against_mae = {name: ("ours", json.dumps(changes)) for name, changes in OURS.items()}
    for commands in (against_pytorch, against_mae):
        sides = {name: Side(kind, batch, options) for name, (kind, options) in commands.items()}
        compare(sides, arguments.rounds)
        table(sides, flops, batch, max(rates.values()))
        print()
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()

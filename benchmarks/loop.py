"""Speed of the training loop compared with the step alone, and the cost of logging, pictures and checkpoints.

    python -m benchmarks.loop [--config=tiny] [--batch=16] [--steps=40] [--rounds=5]
    python -m benchmarks.loop --config=rmae_b --steps=2 --rounds=3

The step alone runs repeatedly on a batch on the devices. The loop is built from the parts of
`rmae_jax.training.pretrain`: it reads the photographs that scikit-image ships, as configs/rmae_tiny.py prepares them,
transfers them to the devices and records the losses. A second loop does so with batches in memory, which shows how much
reading slows a step on the same cores. Further loops also write lines of metrics, draw pictures, or save checkpoints.
All run in turns in this process. The additional seconds are divided by the number of such events, and compared with the
time between two events in the recipe.
"""

import argparse
import contextlib
import importlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from rmae_jax import data
from rmae_jax.data.examples import Example
from rmae_jax.runtime.allocator import keep_freed_memory
from rmae_jax.runtime.compilation_cache import enable_compilation_cache
from rmae_jax.training.checkpoints import Checkpoints
from rmae_jax.training.loss_buffer import LossBuffer
from rmae_jax.training.mesh import to_devices, training_mesh
from rmae_jax.training.metrics import MetricsWriter
from rmae_jax.training.optimizer import adamw, learning_rate
from rmae_jax.training.recipe import durations
from rmae_jax.training.run_dataset import dataset_folder
from rmae_jax.training.sample_pictures import SamplePictures
from rmae_jax.training.step import init_state, train_step

RECIPES = {"tiny": "rmae_tiny", "rmae_b": "rmae_b"}
NEVER = 10**9
KEPT = 4  # batches cached in memory


class Run:
    """A training run whose step and loop can be run repeatedly."""

    def __init__(self, recipe: str, folder: Path, batch_size: int):
        config = importlib.import_module(f"configs.{RECIPES[recipe]}").get_config()
        config.batch_size, config.data.shipped_photographs = batch_size, True
        self.config, self.mesh = config, training_mesh(config)
        source = data.TFRecordSource(dataset_folder(config, folder), "train")
        view = {"image_size": config.model.image_size, "num_regions": config.model.num_regions}
        self._shown = SamplePictures(config, folder, source, **view)
        times = durations(config, len(source))
        optimizer = adamw(config, times)
        self._schedule, self._folder = learning_rate(config, times), folder
        self._step_fn = train_step(config, optimizer, self.mesh)
        self._state, self._done = init_state(config, optimizer, self.mesh), 0
        self._batches = data.batches(source, seed=config.seed, batch_size=batch_size, **view)
        self._kept = [next(self._batches) for _ in range(KEPT)]
        self._resident = to_devices(self._kept[0], self.mesh)
        (folder / "pictures").mkdir(exist_ok=True)

    def alone(self, steps: int) -> None:
        """Runs the step repeatedly on the same batch."""
        for _ in range(steps):
            self._state, losses = self._step_fn(self._state, self._resident)
            self._done += 1
        jax.block_until_ready(losses)

    def loop(
        self,
        steps: int,
        reading: bool = True,
        log_every: int = NEVER,
        picture_every: int = NEVER,
        save_every: int = NEVER,
    ) -> None:
        """Runs the loop of `rmae_jax.training.pretrain`; extras run in the middle of their interval."""

        def is_time(every: int) -> bool:
            return step % every == every // 2

        batches: Iterator[Example] = self._batches if reading else itertools.cycle(self._kept)
        for step in range(self._done + 1, self._done + steps + 1):
            batch = next(batches)
            self._state, step_losses = self._step_fn(self._state, to_devices(batch, self.mesh))
            self._losses.add(step, step_losses, batch["record"], is_time(log_every))
            if is_time(save_every):
                self._losses.flush()
                self._checkpoints.save(self._state)
            self._checkpoints.check()
            self._writer.advance()
            if is_time(picture_every):
                self._shown.draw(step, self._state.params, self.mesh)
        self._done += steps
        jax.block_until_ready(step_losses)
        self._checkpoints.close()

    def __enter__(self) -> "Run":
        self._writer = MetricsWriter(self._folder, 0, NEVER).__enter__()
        self._checkpoints = Checkpoints(self._folder)
        self._losses = LossBuffer(self._writer, self._schedule, self.config.batch_size)
        return self

    def __exit__(self, *error: object) -> None:
        self._checkpoints.close()
        self._writer.__exit__(*error)
        self._batches.close()


def in_turns(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Returns the seconds of each function in each round, after a first round that compiles."""
    seconds = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            os.sync()  # flushes data that other runs have written
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def main() -> None:
    """Prints the rates and the cost of each extra."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=RECIPES, default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    enable_compilation_cache()
    steps = arguments.steps
    with (
        tempfile.TemporaryDirectory(prefix="rmae-jax-loop-") as folder,
        Run(arguments.config, Path(folder), arguments.batch) as run,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),  # suppresses hundreds of lines
    ):
        extras = {  # events in a round, steps between events in the recipe, and the loop with them
            "a line": (steps, run.config.log_every, lambda: run.loop(steps, log_every=1)),
            "a picture": (1, run.config.pictures_every, lambda: run.loop(steps, picture_every=steps)),
            "a checkpoint": (1, run.config.checkpoint_every, lambda: run.loop(steps, save_every=steps)),
        }
        runs = {
            "the step alone": lambda: run.alone(steps),
            "the loop": lambda: run.loop(steps),
            "without reading": lambda: run.loop(steps, reading=False),
        }
        seconds = in_turns(runs | {name: extra for name, (*_, extra) in extras.items()}, arguments.rounds)
    alone, loop = seconds["the step alone"], seconds["the loop"]
    for name in runs:
        rate, ratios = steps * arguments.batch / np.median(seconds[name]), alone / seconds[name]
        rounds = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{name:15s} {rate:8.1f} images/s   {np.median(ratios):.3f} of the step alone ({rounds})")
    for name, (count, every, _) in extras.items():
        one = np.median(seconds[name] - loop) / count
        share = one / (every * np.median(loop) / steps)
        print(f"{name:15s} {1000 * one:8.1f} ms   {share:.2%} of a run, at one every {every} steps")


if __name__ == "__main__":
    main()

"""Checkpoints of a run: the one file that knows Orbax, whose names still move."""

from pathlib import Path

import jax
from orbax.checkpoint import v1 as ocp

from rmae_jax.training.step import TrainState

KEEP = 3  # newest checkpoints of a run


class CheckpointError(RuntimeError):
    """A checkpoint that is not there or cannot be read."""


class Checkpoints:
    """The checkpoints of one run, each in RUN/checkpoints/STEP; written in the background, renamed when complete."""

    def __init__(self, run: Path):
        self._checkpointer = ocp.training.Checkpointer(
            (run / "checkpoints").absolute(),
            preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),
            cleanup_tmp_directories=True,
        )

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's number of steps done, None if there is none."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def path(self, step: int) -> Path:
        """The folder of one step's checkpoint."""
        return Path(self._checkpointer.directory) / str(step)

    def save(self, state: TrainState) -> None:
        """Starts to write `state`; waits for the one before. Nothing happens if that step is there already."""
        step = int(state.step)
        if self.latest_step != step:
            self._checkpointer.save_async(step, state, force=True)

    def restore(self, abstract: TrainState) -> TrainState:
        """Reads the newest checkpoint into the shapes and shardings of `abstract`."""
        return self._checkpointer.load(self.latest_step, abstract)

    def close(self) -> None:
        """Waits until all that was saved is on disk."""
        self._checkpointer.close()


def load_params(checkpoint: Path, abstract: TrainState) -> dict:
    """Reads the parameters alone, from a run's folder (newest step) or one step's folder.

    Raises:
      CheckpointError: no complete checkpoint is there.
    """
    if (checkpoint / "checkpoints").is_dir():
        steps = [p for p in (checkpoint / "checkpoints").iterdir() if p.name.isdigit()]
        checkpoint = max(steps, key=lambda p: int(p.name), default=checkpoint / "checkpoints")
    if not checkpoint.name.isdigit():
        raise CheckpointError(f"no checkpoint in {checkpoint}: give a run's folder or one of its checkpoints/STEP")
    wanted = jax.tree.map(lambda _: ocp.PLACEHOLDER, abstract)._replace(params=abstract.params)
    return ocp.load(checkpoint.absolute(), wanted).params

"""Checkpoints of a run: the one file that knows Orbax, whose names still move."""

from pathlib import Path

from jaxtyping import PyTree
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


def newest(run: Path) -> Path | None:
    """The folder of a run's newest complete checkpoint, None if there is none."""
    steps = [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()]
    return max(steps, key=lambda path: int(path.name), default=None)


def load_params(checkpoint: Path, wanted: PyTree) -> PyTree:
    """Reads the parameters alone, from a run's folder (newest step) or one step's folder.

    Args:
      checkpoint: the folder.
      wanted: nested dicts of jax.ShapeDtypeStruct with shardings.

    Raises:
      CheckpointError: no complete checkpoint is there.
    """
    if not checkpoint.name.isdigit():
        run, checkpoint = checkpoint, newest(checkpoint)
        if checkpoint is None:
            raise CheckpointError(f"{run} has no complete checkpoint in checkpoints/")
    if not checkpoint.is_dir():
        raise CheckpointError(f"no checkpoint in {checkpoint}")
    context = ocp.Context()
    context.pytree.loading.partial_load = True  # the optimiser's state stays on disk
    with context:
        return ocp.load(checkpoint.absolute(), {"params": wanted})["params"]

"""Checkpoints of a run. No other module of the package calls Orbax, whose names still change between releases."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from rmae_jax.runtime import hosts
from rmae_jax.runtime.private_apis import ORBAX_METADATA, ORBAX_UNFINISHED
from rmae_jax.training.checksums import checksums, named_leaves
from rmae_jax.training.step import TrainState

T = TypeVar("T")
KEEP = 3  # newest checkpoints that a run retains
CORRUPT_SUFFIX = ".damaged"  # suffix of a corrupt checkpoint's folder that was set aside
MIN_SLICE = 1 << 20  # bytes; devices share the writing of larger arrays: a program is compiled for each slice


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, corrupt, or cannot be written."""


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints/STEP; written in the background and renamed when complete."""

    def __init__(self, run: Path):
        self._run, self._folder = run, (run / "checkpoints").absolute()
        self._saved: int | None = None  # step of the last restore or save
        self._writing: ocp.AsyncResponse[None] | None = None
        if hosts.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if hosts.several() and hosts.is_device_error(error):
            return  # a lost host never writes its part: waiting for it would not end
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint; None if there is none."""
        return max(_steps(self._folder), default=None)

    @property
    def last_good(self) -> str:
        """The checkpoint that a run can resume from, as a clause of a message."""
        step = self.latest_step
        return "there is no checkpoint yet" if step is None else f"the last good checkpoint is {self.path(step)}"

    def path(self, step: int) -> Path:
        """Returns the folder of one step's checkpoint."""
        return self._folder / str(step)

    def save(self, state: TrainState) -> None:
        """Starts writing `state`, after waiting for the previous checkpoint. Skips a step that is saved already.

        Raises:
          CheckpointError: this checkpoint or the previous one cannot be written.
        """
        self.close()
        step = int(state.step)
        if step == self._saved:
            return
        self._saved = step
        metadata = {"checksums": checksums(state)}
        context = ocp.Context()
        context.array.saving.min_slice_bytes_for_replica_parallel = MIN_SLICE
        try:
            with context:
                self._writing = ocp.save_async(self.path(step), state, custom_metadata=metadata)
        except Exception as error:  # of any type: a run that cannot save must report it and end
            raise self._not_written(error) from error

    def check(self) -> None:
        """Checks, without waiting, whether writing in the background has failed.

        Raises:
          CheckpointError: the checkpoint cannot be written.
        """
        self._finish(timeout=0)

    def close(self) -> None:
        """Waits until the last saved checkpoint is on disk.

        Raises:
          CheckpointError: the checkpoint cannot be written.
        """
        self._finish(timeout=None)

    def restore(self, abstract: TrainState) -> TrainState:
        """Reads the newest intact checkpoint into the shapes and shardings of `abstract`.

        Newer, corrupt checkpoints are reported and renamed to STEP.damaged.

        Raises:
          CheckpointError: no checkpoint can be used; none is renamed.
        """
        damaged = {}
        for step in sorted(_steps(self._folder), reverse=True):
            try:
                state = _read(self.path(step), abstract)
            except CheckpointError as error:
                damaged[step] = error
                continue
            for newer, error in damaged.items():
                kept = self._set_aside(newer)
                hosts.print_once(f"CORRUPT CHECKPOINT: {error}; renamed to {kept}; using {self.path(step)} instead")
            self._saved = step
            self._update_advice()
            return state
        problems = "; ".join(map(str, damaged.values())) or "there is none"
        raise CheckpointError(
            f"no checkpoint of {self._run} can be used: {problems}. Restore one from a backup, or move "
            f"{self._folder} away to start a new run"
        )

    def _set_aside(self, step: int) -> Path:
        """Renames a corrupt checkpoint, so that its step can be saved again; returns the new path."""
        names = (f"{step}{CORRUPT_SUFFIX}{n}" for n in ("", *range(2, 1000)))
        kept = next(path for path in map(self._folder.joinpath, names) if not path.exists())
        _all_processes_agree(True)  # wait until all processes have chosen the free name
        if hosts.is_first():
            self.path(step).rename(kept)
        _all_processes_agree(True)
        return kept

    def _finish(self, timeout: int | None) -> None:
        if self._writing is None:
            return
        try:
            self._writing.result(timeout)
        except Exception as error:  # see save
            if timeout is not None and isinstance(error, TimeoutError):
                return  # still being written
            self._writing = None
            raise self._not_written(error) from error
        self._writing = None
        self._update_advice()
        if hosts.is_first():
            for step in sorted(_steps(self._folder))[:-KEEP]:
                # Renamed first: a process killed here leaves no partial checkpoint under a valid name.
                self.path(step).rename(self.path(step).with_name(f"{step}{ORBAX_UNFINISHED}"))
            self._remove_unfinished()

    def _update_advice(self) -> None:
        hosts.set_advice(f"{self.last_good}; the same command resumes from there, on any number of hosts")

    def _remove_unfinished(self) -> None:
        for path in self._folder.glob(f"*{ORBAX_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)  # a folder still being written is removed next time

    def _not_written(self, error: Exception) -> Exception:
        """Returns the error to raise instead of Orbax's: `hosts.lost_host_error` if Orbax waited for a lost host."""
        if hosts.several() and re.search("[Bb]arrier|heartbeat|Gloo", _reason(error)):
            return hosts.lost_host_error(error)
        if hosts.is_first():
            self._remove_unfinished()
        return CheckpointError(
            f"checkpoint {self.path(self._saved)} could not be written: {_reason(error)}; {self.last_good}. Free "
            "some space if the disk is full, then run the same command: it resumes from there"
        )


def newest(run: Path) -> Path | None:
    """Returns the folder of a run's newest complete checkpoint, or None if there is none."""
    step = max(_steps(run / "checkpoints"), default=None)
    return None if step is None else run / "checkpoints" / str(step)


def is_step_folder(path: Path) -> bool:
    """Returns whether a path is RUN/checkpoints/STEP; a run folder may also have a number as its name."""
    path = path.absolute()
    return path.name.isdigit() and path.parent.name == "checkpoints" and not (path / "config.json").exists()


def load_params(checkpoint: Path, wanted: PyTree) -> PyTree:
    """Reads only the parameters, from a run folder (newest step) or from one step's folder.

    Args:
      checkpoint: the run folder or the step's folder.
      wanted: nested dicts of jax.ShapeDtypeStruct with shardings.

    Raises:
      CheckpointError: there is no complete checkpoint, or it is corrupt.
    """
    if not is_step_folder(checkpoint):
        run, checkpoint = checkpoint, newest(checkpoint)
        if checkpoint is None:
            raise CheckpointError(f"{run} has no complete checkpoint in checkpoints/")
    checkpoint = checkpoint.absolute()
    if not checkpoint.is_dir():
        raise CheckpointError(f"no checkpoint in {checkpoint}")
    try:
        return _read(checkpoint, {"params": wanted})["params"]
    except CheckpointError as error:
        others = sorted(_steps(checkpoint.parent) - {int(checkpoint.name)})
        hint = "".join(f"; another one is {checkpoint.parent / str(step)}" for step in others[-1:])
        raise CheckpointError(f"{error}{hint}") from error


def _steps(folder: Path) -> set[int]:
    """Returns the steps of the complete checkpoints in a folder; unfinished or set-aside ones have longer names."""
    return {int(path.name) for path in folder.glob("*") if path.name.isdigit()}


def _read(folder: Path, wanted: PyTree) -> PyTree:
    """Reads the `wanted` parts of a checkpoint and verifies their checksums.

    Raises:
      CheckpointError: it is corrupt; raised in every process, even if only one has noticed.
    """
    # In turn: Orbax numbers its operations, and a process that has started one more than the others cannot save again.
    expected = _read_on_all_processes(folder, lambda: _read_checksums(folder))
    found = _read_on_all_processes(folder, lambda: _load(folder, wanted))
    if expected is None:
        hosts.print_once(f"{folder} was written before checkpoints had checksums: it cannot be verified")
        return found
    wrong = [name for name, value in checksums(found).items() if expected.get(name) != value]
    if not _all_processes_agree(not wrong):
        raise CheckpointError(f"{folder} has values that do not match their checksums ({', '.join(wrong[:3])})")
    return found


def _read_on_all_processes(folder: Path, read: Callable[[], T]) -> T:
    """Returns the result of `read` if it succeeds in every process; raises CheckpointError in all of them otherwise."""
    problem = None
    try:
        found = read()
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # a fault of the machine, not of the file
    except Exception as error:  # Orbax raises any type for a corrupt file, even plain Exception
        problem = f"{folder} cannot be read ({_reason(error)})"
    if not _all_processes_agree(problem is None):
        raise CheckpointError(problem or f"{folder} cannot be read by another process")
    return found


def _all_processes_agree(ok: bool) -> bool:
    """Returns whether `ok` is true in all processes; each waits for the others."""
    return ok if jax.process_count() == 1 else bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def _read_checksums(folder: Path) -> dict[str, int] | None:
    """Reads the checksums saved with a checkpoint; None if it was written before checkpoints had checksums."""
    custom = json.loads((folder / ORBAX_METADATA).read_text())["custom_metadata"]
    return custom["checksums"] if custom else None


def _load(folder: Path, wanted: PyTree) -> PyTree:
    saved = named_leaves(ocp.metadata(folder.absolute()).metadata)
    for name, leaf in named_leaves(wanted).items():  # Orbax would convert the values
        if name in saved and saved[name].dtype != leaf.dtype:
            raise TypeError(f"{name} was saved as {saved[name].dtype}; this program expects {leaf.dtype}")
    context = ocp.Context()
    context.pytree.loading.partial_load = not isinstance(wanted, TrainState)
    # Each process reads on its own: one that fails must not leave the others waiting.
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    with context:
        found = ocp.load(folder.absolute(), wanted, checkpointable_name="state")
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found)):
        raise TypeError("Orbax omitted values")  # as it does if its own metadata is corrupt
    return found


def _reason(error: Exception) -> str:
    """Returns the root cause of an error as one line, with the middle of a long message removed."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) < 300 else f"{text[:100]} ... {text[-190:]}"  # the cause is at the end

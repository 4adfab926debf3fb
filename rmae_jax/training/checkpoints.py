"""Checkpoints of a run: the one file that knows Orbax, whose names still move."""

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
from rmae_jax.runtime.library_internals import ORBAX_METADATA, ORBAX_UNFINISHED
from rmae_jax.training.checksums import checksums
from rmae_jax.training.step import TrainState

T = TypeVar("T")
KEEP = 3  # newest checkpoints of a run
DAMAGED = ".damaged"  # ends the name of a folder that was set aside


class CheckpointError(RuntimeError):
    """A checkpoint that is not there, is damaged, or cannot be written."""


class Checkpoints:
    """The checkpoints of one run, each in RUN/checkpoints/STEP; written in the background, renamed when complete."""

    def __init__(self, run: Path):
        self._run, self._folder = run, (run / "checkpoints").absolute()
        self._saved: int | None = None  # the newest that was read or begun to be written
        self._writing: ocp.AsyncResponse[None] | None = None
        if hosts.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if hosts.several() and hosts.is_of_devices(error):
            return  # of a lost host, which will never write its part
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's number of steps done, None if there is none."""
        return max(_steps(self._folder), default=None)

    @property
    def last_good(self) -> str:
        """Where a run can go on from, for a message."""
        step = self.latest_step
        return "there is no checkpoint yet" if step is None else f"the last good checkpoint is {self.path(step)}"

    def path(self, step: int) -> Path:
        """The folder of one step's checkpoint."""
        return self._folder / str(step)

    def save(self, state: TrainState) -> None:
        """Starts to write `state`; waits for the one before. Nothing happens if that step is there already.

        Raises:
          CheckpointError: this one or the one before cannot be written.
        """
        self.close()
        step = int(state.step)
        if step == self._saved:
            return
        self._saved = step
        metadata = {"checksums": checksums(state)}
        try:
            self._writing = ocp.save_async(self.path(step), state, custom_metadata=metadata)
        except Exception as error:  # whatever it is, a run that cannot save must say so and end
            raise self._not_written(error) from error

    def check(self) -> None:
        """Looks, without waiting, whether what is being written in the background went wrong.

        Raises:
          CheckpointError: it cannot be written.
        """
        self._finish(timeout=0)

    def close(self) -> None:
        """Waits until all that was saved is on disk.

        Raises:
          CheckpointError: it cannot be written.
        """
        self._finish(timeout=None)

    def restore(self, abstract: TrainState) -> TrainState:
        """Reads the newest undamaged checkpoint into the shapes and shardings of `abstract`.

        Damaged ones that are newer are named on the terminal and kept, as STEP.damaged.

        Raises:
          CheckpointError: none can be used; then all stay where they are.
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
                hosts.say(f"DAMAGED CHECKPOINT: {error}; kept as {kept}; {self.path(step)} is used instead")
            self._saved = step
            self._remember()
            return state
        problems = "; ".join(map(str, damaged.values())) or "there is none"
        raise CheckpointError(
            f"no checkpoint of {self._run} can be used: {problems}. Bring a good one back from a copy, or move "
            f"{self._folder} away to begin anew"
        )

    def _set_aside(self, step: int) -> Path:
        """Renames a damaged checkpoint, so that its step can be saved again; where to."""
        names = (f"{step}{DAMAGED}{n}" for n in ("", *range(2, 1000)))
        kept = next(path for path in map(self._folder.joinpath, names) if not path.exists())
        _on_all_processes(True)  # all have seen which name is free
        if hosts.is_first():
            self.path(step).rename(kept)
        _on_all_processes(True)
        return kept

    def _finish(self, timeout: int | None) -> None:
        if self._writing is None:
            return
        try:
            self._writing.result(timeout)
        except Exception as error:  # see save
            if timeout is not None and isinstance(error, TimeoutError):
                return  # is still being written
            self._writing = None
            raise self._not_written(error) from error
        self._writing = None
        self._remember()
        if hosts.is_first():
            for step in sorted(_steps(self._folder))[:-KEEP]:
                # Renamed first: who is killed now leaves no half of a checkpoint.
                self.path(step).rename(self.path(step).with_name(f"{step}{ORBAX_UNFINISHED}"))
            self._remove_unfinished()

    def _remember(self) -> None:
        hosts.remember(f"{self.last_good}; the same command goes on from there, on any number of hosts")

    def _remove_unfinished(self) -> None:
        for path in self._folder.glob(f"*{ORBAX_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)  # what stays, as it is still being written, goes next time

    def _not_written(self, error: Exception) -> Exception:
        """What to raise instead of an error of Orbax: `hosts.lost` where that waited for a host in vain."""
        if hosts.several() and re.search("[Bb]arrier|heartbeat|Gloo", _reason(error)):
            return hosts.lost(error)
        if hosts.is_first():
            self._remove_unfinished()
        return CheckpointError(
            f"checkpoint {self.path(self._saved)} could not be written: {_reason(error)}; {self.last_good}. Make "
            "room if the disk is full, then run the same command: it goes on from there"
        )


def newest(run: Path) -> Path | None:
    """The folder of a run's newest complete checkpoint, None if there is none."""
    step = max(_steps(run / "checkpoints"), default=None)
    return None if step is None else run / "checkpoints" / str(step)


def load_params(checkpoint: Path, wanted: PyTree) -> PyTree:
    """Reads the parameters alone, from a run's folder (newest step) or one step's folder.

    Args:
      checkpoint: the folder.
      wanted: nested dicts of jax.ShapeDtypeStruct with shardings.

    Raises:
      CheckpointError: no complete checkpoint is there, or it is damaged.
    """
    if not checkpoint.name.isdigit():
        run, checkpoint = checkpoint, newest(checkpoint)
        if checkpoint is None:
            raise CheckpointError(f"{run} has no complete checkpoint in checkpoints/")
    if not checkpoint.is_dir():
        raise CheckpointError(f"no checkpoint in {checkpoint}")
    try:
        return _read(checkpoint, {"params": wanted})["params"]
    except CheckpointError as error:
        others = sorted(_steps(checkpoint.parent) - {int(checkpoint.name)})
        hint = "".join(f"; another one is {checkpoint.parent / str(step)}" for step in others[-1:])
        raise CheckpointError(f"{error}{hint}") from error


def _steps(folder: Path) -> set[int]:
    """The complete checkpoints in a folder: those being written or set aside have longer names."""
    return {int(path.name) for path in folder.glob("*") if path.name.isdigit()}


def _read(folder: Path, wanted: PyTree) -> PyTree:
    """Reads the parts of a checkpoint that are wanted, and verifies them.

    Raises:
      CheckpointError: it is damaged; in every process, even if only one has noticed.
    """
    # One by one: Orbax counts its operations, and a process that has begun one more than another cannot save any more.
    expected = _read_on_all_processes(folder, lambda: _recorded(folder))
    found = _read_on_all_processes(folder, lambda: _load(folder, wanted))
    if expected is None:
        hosts.say(f"{folder} was written before checkpoints had checksums: it cannot be verified")
        return found
    wrong = [name for name, value in checksums(found).items() if expected.get(name) != value]
    if not _on_all_processes(not wrong):
        raise CheckpointError(f"{folder} holds other values than were saved ({', '.join(wrong[:3])})")
    return found


def _read_on_all_processes(folder: Path, read: Callable[[], T]) -> T:
    """What `read` gives, if it can read in every process; CheckpointError in all of them otherwise."""
    problem = None
    try:
        found = read()
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # the machine's fault, not the file's
    except Exception as error:  # Orbax raises anything of a damaged file, plain Exception too
        problem = f"{folder} cannot be read ({_reason(error)})"
    if not _on_all_processes(problem is None):
        raise CheckpointError(problem or f"{folder} cannot be read by another process")
    return found


def _on_all_processes(ok: bool) -> bool:
    """Whether all processes say so; each waits for the others."""
    return ok if jax.process_count() == 1 else bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def _recorded(folder: Path) -> dict[str, int] | None:
    """The checksums that were saved with a checkpoint, None if it is older than they are."""
    custom = json.loads((folder / ORBAX_METADATA).read_text())["custom_metadata"]
    return custom["checksums"] if custom else None


def _load(folder: Path, wanted: PyTree) -> PyTree:
    context = ocp.Context()
    context.pytree.loading.partial_load = not isinstance(wanted, TrainState)
    # Each process reads for itself: one that fails must not leave the others waiting for it.
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    with context:
        found = ocp.load(folder.absolute(), wanted, checkpointable_name="state")
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found)):
        raise TypeError("Orbax left out values")  # as it does where its own notes are damaged
    return found


def _reason(error: Exception) -> str:
    """One line of what may be a page."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) < 300 else f"{text[:100]} ... {text[-190:]}"  # what went wrong stands at the end

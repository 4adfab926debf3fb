"""Metrics of a run: JSON lines, TensorBoard events and progress on the terminal."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from data_prep.storage.atomic_write import atomic_write_text
from rmae_jax.training.tensorboard import EventsWriter

FLUSH_SECONDS = 30  # seconds, at least, between flushes of TensorBoard events


class MetricsWriter:
    """A writer of RUN/metrics.jsonl, RUN/tensorboard and progress: a bar on a terminal, plain lines elsewhere.

    A run that resumes from `start_step` first drops the lines that it will write again.
    """

    def __init__(self, run: Path, start_step: int, steps: int):
        self.path = run / "metrics.jsonl"
        drop_lines_after(self.path, start_step)
        self._file = self.path.open("a")
        self._event_folder = run / "tensorboard"
        self._event_folder.mkdir(exist_ok=True)
        self._events = EventsWriter(self._event_folder, start_step + 1)
        self._flushed = time.monotonic()
        self._steps, self._start_step = steps, start_step
        self._timed_from = time.monotonic(), start_step  # the time and the step from which the time left is estimated
        self._bar = tqdm(total=steps, initial=start_step, unit="step", disable=not sys.stderr.isatty(), smoothing=0.05)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bar.close()
        for file in (self._events, self._file):
            if kind is None:
                file.close()
            else:
                with suppress(OSError):  # the error that is being raised is more informative
                    file.close()

    def advance(self) -> None:
        """Advances the progress by one step that was dispatched to the devices."""
        self._bar.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes one step's values to all outputs."""
        with name_in_errors(self.path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        with name_in_errors(self._event_folder):
            self._events.scalars(step, values)
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush_events()
        losses = {name: f"{value:.4f}" for name, value in values.items() if name.endswith("loss")}
        if self._bar.disable:
            now, (started, start_step) = time.monotonic(), self._timed_from
            left = (now - started) / max(1, step - start_step) * (self._steps - step)
            if start_step == self._start_step:
                self._timed_from = now, step  # without the compilation before the first step
            shown = "  ".join(f"{name} {value}" for name, value in losses.items())
            rate = values["images_per_second"]
            print(f"step {step}/{self._steps}  {shown}  {rate:.1f} images/s  {left:.0f} s left", flush=True)
        else:
            self._bar.set_postfix(losses | {"images/s": f"{values['images_per_second']:.1f}"})

    def sync(self) -> None:
        """Flushes to disk, so that the lines written so far survive a crash."""
        with name_in_errors(self.path):
            os.fsync(self._file.fileno())
        with name_in_errors(self._event_folder):
            self._flush_events()

    def _flush_events(self) -> None:
        self._events.flush()
        self._flushed = time.monotonic()


@contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError of the body, such as one about a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        if error.errno is None:  # Pillow's errors may have none
            raise OSError(f"{error}: '{path}'") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def read(path: Path) -> list[dict]:
    """Reads the lines of a metrics.jsonl; empty if it does not exist. Skips a last line cut short by a crash."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def drop_lines_after(path: Path, step: int) -> list[dict]:
    """Drops the lines after `step` from a file of JSON lines that have a "step"; returns the remaining lines."""
    kept = [line for line in read(path) if line["step"] <= step]
    atomic_write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept

"""Bad records: corrupt ones that a run skips, and the images of a batch whose loss is not finite."""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int64

from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data.examples import Example, decode
from rmae_jax.runtime import hosts
from rmae_jax.training.metrics import drop_lines_after

_NAMED = 3  # images named in a message


class SkippedRecords:
    """A count of the rows of this process's batches whose record was corrupt; reports each such record once on stderr.

    Process 0 appends a line to RUN/skipped.jsonl for each step with such rows. A run that resumes from `start_step`
    first drops the lines that it will write again, so that it counts like an uninterrupted run.
    """

    def __init__(self, run: Path, source: TFRecordSource, start_step: int):
        self._path, self._source, self._named = run / "skipped.jsonl", source, set()
        self._total = 0
        if hosts.is_first() and self._path.exists():
            self._total = sum(len(line["damaged"]) for line in drop_lines_after(self._path, start_step))

    def add(self, step: int, batch: Example) -> int | None:
        """Counts a step's batch; returns the number of rows since step 1, or None if corrupt records are an error."""
        if "damaged" not in batch:
            return None
        damaged = batch["damaged"][batch["damaged"] >= 0].tolist()
        if not damaged:
            return self._total
        self._total += len(damaged)
        for record in damaged:
            if record not in self._named:
                self._named.add(record)
                print(f"skipped: {self._reason(record, 'regions' in batch)}", file=sys.stderr, flush=True)
        if hosts.is_first():
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, "damaged": damaged}) + "\n")
                file.flush()
                os.fsync(file.fileno())  # a run resumed from the next checkpoint needs this line
        return self._total

    def _reason(self, record: int, with_regions: bool) -> str:
        try:
            decode(self._source, record, with_regions)
        except DatasetError as error:
            return str(error)
        return self._source.where(record)  # it has been restored since


def list_images(run: Path, source: TFRecordSource, step: int, records: Int64[np.ndarray, "rows"]) -> str:
    """Writes the image ids of a batch to RUN/nonfinite-STEP.txt, one per line; returns a message with the first few."""
    names = [_image_id(source, record) for record in records.tolist()]
    host = f"-host{jax.process_index()}" if jax.process_count() > 1 else ""
    path = run / f"nonfinite-{step}{host}.txt"
    try:
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        others = f"all {len(names)} are listed in {path}"
    except OSError as error:  # must not hide the error that is being reported
        others = f"the list of all {len(names)} could not be written: {error}"
    return f"the first images of its batch are {', '.join(names[:_NAMED])}; {others}"


def _image_id(source: TFRecordSource, record: int) -> str:
    try:
        return source[record].image_id
    except DatasetError:
        return source.where(record)

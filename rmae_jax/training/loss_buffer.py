"""A buffer that reads losses one logging interval late, so that the devices never wait for the host."""

import math
import time
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Int64

from rmae_jax.training.metrics import MetricsWriter
from rmae_jax.training.step import Losses

IN_FLIGHT = 2  # steps queued on the devices, each with its batch in their memory


class NonFiniteLoss(RuntimeError):
    """A loss that is nan or infinite; the message names the first such step.

    Attributes:
      step: the first such step.
      records: record numbers of this process's slice of that step's batch.
    """

    def __init__(self, step: int, name: str, value: float, records: Int64[np.ndarray, "rows"]):
        super().__init__(f"{name} is {value} at step {step}")
        self.step, self.records = step, records


class _Step(NamedTuple):
    step: int
    losses: Losses
    records: Int64[np.ndarray, "rows"]
    skipped: int | None
    images_per_second: float | None  # of the logging interval that ends at this step; None at other steps


class LossBuffer:
    """A buffer of each step's losses on the devices; they are checked and written one logging interval later.

    Without a writer, they are only checked.
    """

    def __init__(self, writer: MetricsWriter | None, schedule: optax.Schedule, batch_size: int):
        self._writer, self._schedule, self._batch_size = writer, schedule, batch_size
        self._since: tuple[int, float] | None = None  # step and time at which the interval began
        self._previous: list[_Step] = []  # the previous interval, which is read next
        self._current: list[_Step] = []

    def add(
        self, step: int, losses: Losses, records: Int64[np.ndarray, "rows"], write: bool, skipped: int | None = None
    ) -> None:
        """Adds a step's losses.

        Args:
          step: the step's number.
          losses: the step's losses, on the devices.
          records: record numbers of this process's slice of the step's batch.
          write: whether the step ends a logging interval.
          skipped: number of skipped records so far, to be written; None if corrupt records are an error.

        Raises:
          NonFiniteLoss: a loss of the previous interval is not finite.
        """
        if self._since is None:
            jax.block_until_ready(losses)  # the first step compiles; rates are measured from its end
            self._since = step, time.monotonic()
        elif len(self._current) >= IN_FLIGHT:
            jax.block_until_ready(self._current[-IN_FLIGHT].losses)
        rate = None
        if write:
            (first, start), now = self._since, time.monotonic()
            rate = (step - first) * self._batch_size / max(now - start, 1e-9)
            self._since = step, now
        self._current.append(_Step(step, losses, records, skipped, rate))
        if write:
            self._check_and_write(self._previous)
            self._previous, self._current = self._current, []

    def flush(self) -> None:
        """Checks and writes all losses added so far.

        Raises:
          NonFiniteLoss: one of them is not finite.
        """
        self._check_and_write(self._previous + self._current)
        self._previous, self._current = [], []
        if self._writer is not None:
            self._writer.sync()

    def _check_and_write(self, steps: list[_Step]) -> None:
        fetched = jax.device_get([step.losses for step in steps])
        for (step, _, records, skipped, rate), losses in zip(steps, fetched, strict=True):
            values = {name: float(value) for name, value in losses.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteLoss(step, name, value, records)
            if rate is not None and self._writer is not None:
                values |= {"learning_rate": float(self._schedule(step - 1)), "images_per_second": rate}
                if skipped is not None:
                    values["skipped_records"] = skipped
                self._writer.write(step, values)

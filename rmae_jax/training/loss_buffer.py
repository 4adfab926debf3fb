"""Losses read late, so that looking at them never makes the devices wait."""

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
    """A loss was nan or infinite; the message names the first such step.

    Attributes:
      step: the same.
      records: numbers of the records of this process's part of that step's batch.
    """

    def __init__(self, step: int, name: str, value: float, records: Int64[np.ndarray, "rows"]):
        super().__init__(f"{name} is {value} at step {step}")
        self.step, self.records = step, records


class _Step(NamedTuple):
    step: int
    losses: Losses
    records: Int64[np.ndarray, "rows"]
    skipped: int | None
    images_per_second: float | None  # of the logging interval that the step ends; None inside of one


class LossBuffer:
    """Collects each step's losses on the devices; checks and writes them one logging interval later.

    Without a writer, it only checks.
    """

    def __init__(self, writer: MetricsWriter | None, schedule: optax.Schedule, batch_size: int):
        self._writer, self._schedule, self._batch_size = writer, schedule, batch_size
        self._since: tuple[int, float] | None = None  # step and time that the interval's rate is counted from
        self._before: list[_Step] = []  # the interval that is read next
        self._now: list[_Step] = []

    def add(
        self, step: int, losses: Losses, records: Int64[np.ndarray, "rows"], write: bool, skipped: int | None = None
    ) -> None:
        """Takes a step's losses.

        Args:
          step: its number.
          losses: on the devices.
          records: of this process's part of its batch.
          write: whether it ends the interval.
          skipped: records skipped up to it, to be written; None where none may be.

        Raises:
          NonFiniteLoss: in the interval before.
        """
        if self._since is None:
            jax.block_until_ready(losses)  # the first step compiles; rates are counted from its end
            self._since = step, time.monotonic()
        elif len(self._now) >= IN_FLIGHT:
            jax.block_until_ready(self._now[-IN_FLIGHT].losses)
        rate = None
        if write:
            (first, start), now = self._since, time.monotonic()
            rate = (step - first) * self._batch_size / max(now - start, 1e-9)
            self._since = step, now
        self._now.append(_Step(step, losses, records, skipped, rate))
        if write:
            self._settle(self._before)
            self._before, self._now = self._now, []

    def flush(self) -> None:
        """Checks and writes all that was added.

        Raises:
          NonFiniteLoss: in any of it.
        """
        self._settle(self._before + self._now)
        self._before, self._now = [], []
        if self._writer is not None:
            self._writer.sync()

    def _settle(self, steps: list[_Step]) -> None:
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

"""Losses read late, so that looking at them never makes the devices wait."""

import math
import time

import jax
import optax

from rmae_jax.training.metrics import MetricsWriter
from rmae_jax.training.step import Losses

IN_FLIGHT = 2  # steps queued on the devices, each with its batch in their memory


class NonFiniteLoss(RuntimeError):
    """A loss was nan or infinite; `step` is the first such step."""

    def __init__(self, step: int, name: str, value: float):
        super().__init__(f"{name} is {value} at step {step}")
        self.step = step


class LateLosses:
    """Collects each step's losses on the devices; checks and writes them one logging interval later."""

    def __init__(self, writer: MetricsWriter, schedule: optax.Schedule, batch_size: int):
        self._writer, self._schedule, self._batch_size = writer, schedule, batch_size
        self._written_step: int | None = None
        self._before: list[tuple[int, Losses, bool]] = []  # the interval that is read next
        self._now: list[tuple[int, Losses, bool]] = []

    def add(self, step: int, losses: Losses, write: bool) -> None:
        """Takes a step's losses; `write` ends the interval.

        Raises:
          NonFiniteLoss: in the interval before.
        """
        self._now.append((step, losses, write))
        if self._written_step is None:
            jax.block_until_ready(losses)  # the first step compiles; rates are counted from its end
            self._written_step, self._written_at = step, time.monotonic()
        if len(self._now) > IN_FLIGHT:
            jax.block_until_ready(self._now[-1 - IN_FLIGHT][1])
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
        self._writer.sync()

    def _settle(self, entries: list[tuple[int, Losses, bool]]) -> None:
        for step, losses, write in jax.device_get(entries):
            values = {name: float(value) for name, value in losses.items()}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteLoss(int(step), name, value)
            if write:
                now, step = time.monotonic(), int(step)
                values["learning_rate"] = float(self._schedule(step - 1))
                images = (step - self._written_step) * self._batch_size
                values["images_per_second"] = images / (now - self._written_at)
                self._written_step, self._written_at = step, now
                self._writer.write(step, values)

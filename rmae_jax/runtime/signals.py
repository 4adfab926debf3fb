"""Ctrl-C and preemption: finish the step, save, then leave."""

import signal
from types import FrameType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Interrupted(Exception):
    """A run that a signal ended after its state was saved; `signum` is the signal."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


class StopSignals:
    """While entered, notes SIGINT and SIGTERM in `received` instead of dying of them; a second one does kill."""

    signals = (signal.SIGINT, signal.SIGTERM)
    received: int | None = None

    def __enter__(self) -> "StopSignals":
        self.received = None
        self._before = {s: signal.signal(s, self._note) for s in self.signals}
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self.__exit__()  # who insists is not made to wait for the save

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


class AgreedStop:
    """The signal that ended a run on any host, learned by all of them after the same step.

    Looked at after every step. With several hosts, each tells the others what it received, over the devices and
    without waiting for them: the answer comes `DELAY` steps later.
    """

    DELAY = 2  # steps; as many as are in flight, so that nobody waits

    def __init__(self, stop: StopSignals, mesh: Mesh):
        self._stop, self._one_per_device = stop, NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._asked: list[jax.Array] = []

    def after_step(self) -> int | None:
        """The signal, None if there was none."""
        if jax.process_count() == 1:
            return self._stop.received
        received = np.full(jax.local_device_count(), self._stop.received or 0, np.int32)
        self._asked.append(self._largest(jax.make_array_from_process_local_data(self._one_per_device, received)))
        if len(self._asked) <= self.DELAY:
            return None
        return int(self._asked.pop(0)) or None

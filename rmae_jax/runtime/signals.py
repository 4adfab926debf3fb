"""Handling of Ctrl-C and preemption: a run finishes its step, saves and exits."""

import signal
from types import FrameType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Interrupted(Exception):
    """The end of a run by a signal, after its state was saved; `signum` is the signal."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


class StopSignals:
    """A context that records SIGINT or SIGTERM in `received` instead of ending the process; a second signal ends it."""

    signals = (signal.SIGINT, signal.SIGTERM)
    received: int | None = None

    def __enter__(self) -> "StopSignals":
        self.received = None
        self._before = {s: signal.signal(s, self._record) for s in self.signals}
        return self

    def _record(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self.__exit__()  # a second signal ends the process without waiting for the save

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)


class SharedStopSignal:
    """The signal that stops a run, received on any host and known to all hosts after the same step.

    Call `after_step` after every step. With several hosts, each sends what it received to the others over the devices,
    without waiting for them: the answer arrives `DELAY` steps later.
    """

    DELAY = 2  # steps; as many as are in flight, so that no host waits

    def __init__(self, stop: StopSignals, mesh: Mesh):
        self._stop, self._one_per_device = stop, NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._pending: list[jax.Array] = []

    def after_step(self) -> int | None:
        """Returns the signal, or None if there was none."""
        if jax.process_count() == 1:
            return self._stop.received
        received = np.full(jax.local_device_count(), self._stop.received or 0, np.int32)
        self._pending.append(self._largest(jax.make_array_from_process_local_data(self._one_per_device, received)))
        if len(self._pending) <= self.DELAY:
            return None
        return int(self._pending.pop(0)) or None

"""Ctrl-C and preemption: finish the step, save, then leave."""

import signal
from types import FrameType


class Interrupted(Exception):
    """A run that a signal ended after its state was saved; `signum` is the signal."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


class StopSignals:
    """While entered, notes SIGINT and SIGTERM in `received` instead of dying of them; a second one does kill."""

    signals = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> "StopSignals":
        self.received: int | None = None
        self._before = {s: signal.signal(s, self._note) for s in self.signals}
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        self.__exit__()  # who insists is not made to wait for the save

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

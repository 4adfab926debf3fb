"""Shards written by processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from data_prep.engines.attempt import ATTEMPTS, Failure, Outcomes, attempt
from data_prep.shards import Shard, Summary

POLL_SECONDS = 0.2


def write_all(pending: Sequence[Shard], workers: int, progress: Callable[[int], None]) -> Outcomes:
    """Writes shards in `workers` processes, in this one if it is 1; yields each with its outcome when it is done.

    A worker that dies is replaced, and its shard is tried again. When the caller stops listening, is interrupted or
    dies (SIGKILL included), the workers end at once.

    Args:
      pending: the work items.
      workers: number of processes.
      progress: called now and then with the number of images done so far.

    Raises:
      OSError: the disk is full or cannot be written at all.
    """
    if workers == 1 or not pending:
        yield from _write_here(pending, progress)
        return
    context = multiprocessing.get_context("spawn")
    # Nothing is ever sent: the workers' end reads end-of-file when this process closes its end or dies.
    their_end, our_end = context.Pipe(duplex=False)
    counts = context.Array("q", min(workers, len(pending)), lock=False)
    waiting = deque((shard, 1) for shard in pending)  # with the number of the attempt
    finished = 0
    workers_made: list[_Worker] = []
    try:
        with _interrupts_held_back():
            workers_made = [_Worker(context, counts, number, their_end) for number in range(len(counts))]
        for worker in workers_made:
            worker.give(*waiting.popleft())
        busy = list(workers_made)
        while busy:
            ready = wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)], POLL_SECONDS)
            progress(finished + sum(counts))
            for worker in [w for w in busy if w.connection in ready or w.process.sentinel in ready]:
                outcome = worker.outcome()
                if outcome is None and worker.attempts < ATTEMPTS:
                    waiting.append((worker.shard, worker.attempts + 1))
                else:
                    finished += len(worker.shard.images)
                    yield worker.shard, outcome or Failure(worker.death())
                counts[worker.number] = 0
                if outcome is None and waiting:
                    with _interrupts_held_back():
                        worker.start(context, counts, their_end)
                if waiting:
                    worker.give(*waiting.popleft())
                else:
                    busy.remove(worker)
    finally:
        our_end.close()
        for worker in workers_made:
            worker.process.join()
        their_end.close()


def _write_here(pending: Sequence[Shard], progress: Callable[[int], None]) -> Outcomes:
    done = 0

    for shard in pending:
        start = done

        def advance():
            nonlocal done
            done += 1
            progress(done)

        def restart(start=start):
            nonlocal done
            done = start

        yield shard, attempt(shard, advance, restart)
        done = start + len(shard.images)


class _Worker:
    """A process, and the shard that it was given."""

    def __init__(self, context: Any, counts: Any, number: int, lifeline: Connection):
        self.number = number
        self.start(context, counts, lifeline)

    def start(self, context: Any, counts: Any, lifeline: Connection) -> None:
        """Starts the process, or another in the place of one that died."""
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, counts, self.number, lifeline), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, shard: Shard, attempts: int) -> None:
        """Hands over a shard."""
        self.shard, self.attempts = shard, attempts
        with suppress(BrokenPipeError):  # where it died, `outcome` will say so
            self.connection.send(shard)

    def outcome(self) -> Summary | Failure | None:
        """What became of the shard; None if the process died.

        Raises:
          OSError: what made the worker give up.
        """
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):  # OSError where it died within a message
            self.process.join()
            self.connection.close()
            return None
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def death(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"its process ended {how} {ATTEMPTS} times, perhaps for want of memory: use fewer --workers"


def _work(connection: Connection, counts: Any, number: int, lifeline: Connection) -> None:
    """A worker's main function: writes the shards that it is given, until it is given no more."""

    def exit_with_parent():
        lifeline.poll(None)
        os._exit(1)

    def advance():
        counts[number] += 1

    def restart():
        counts[number] = 0

    threading.Thread(target=exit_with_parent, daemon=True).start()
    while True:
        try:
            shard = connection.recv()
        except EOFError:
            return
        try:
            outcome = attempt(shard, advance, restart)
        except OSError as error:
            outcome = error
        connection.send(outcome)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C reaches this process afterwards, and never the processes started in between: they inherit the mask."""
    caught = []
    # The mask is this thread's only. Where another thread takes the signal, the handler runs here all the same.
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda *args: caught.append(args))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if caught:
        raise KeyboardInterrupt

"""The local engine, which runs work items in processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from data_prep.engines.retry import ATTEMPTS, Failure

Item = Any
Task = Callable[[Item, Callable[[int], None]], Any]
POLL_SECONDS = 0.2


def run(
    task: Task, items: Sequence[Item], workers: int, progress: Callable[[int], None]
) -> Iterator[tuple[Item, Any | Failure]]:
    """Runs work items in `workers` processes (in this one if it is 1); yields each with its outcome when finished.

    A worker that dies is replaced, and its item is retried; an item whose workers die each time has a `Failure` as its
    outcome. When the caller closes the iterator, is interrupted or dies (SIGKILL included), the workers end at once.

    Args:
      task: a module-level function that runs an item. It is called with the item and a function, to be called after
        each image with the number of the item's finished images; its result is the outcome.
      items: independent, picklable work items.
      workers: number of processes.
      progress: called from time to time with the number of finished images.

    Raises:
      OSError: a task raised it.
    """
    if workers == 1 or not items:
        yield from _run_here(task, items, progress)
        return
    context = multiprocessing.get_context("spawn")
    # Nothing is ever sent: the workers' end reads end-of-file when this process closes its end or dies.
    their_end, our_end = context.Pipe(duplex=False)
    counts = context.Array("q", min(workers, len(items)), lock=False)
    waiting = deque((item, 1) for item in items)  # with the number of the attempt
    finished = 0
    workers_made: list[_Worker] = []
    try:
        with _delayed_interrupts():
            workers_made = [_Worker(context, task, counts, number, their_end) for number in range(len(counts))]
        for worker in workers_made:
            worker.give(*waiting.popleft())
        busy = list(workers_made)
        while busy:
            ready = wait([end for worker in busy for end in (worker.connection, worker.process.sentinel)], POLL_SECONDS)
            progress(finished + sum(counts))
            for worker in [w for w in busy if w.connection in ready or w.process.sentinel in ready]:
                outcome = worker.outcome()
                if outcome is None and worker.attempts < ATTEMPTS:
                    waiting.append((worker.item, worker.attempts + 1))
                else:
                    finished += counts[worker.number]
                    yield worker.item, Failure(worker.death()) if outcome is None else outcome
                counts[worker.number] = 0
                if outcome is None and waiting:
                    with _delayed_interrupts():
                        worker.start(context, task, counts, their_end)
                if waiting:
                    worker.give(*waiting.popleft())
                else:
                    busy.remove(worker)
    finally:
        our_end.close()
        for worker in workers_made:
            worker.process.join()
        their_end.close()


def _run_here(
    task: Task, items: Sequence[Item], progress: Callable[[int], None]
) -> Iterator[tuple[Item, Any | Failure]]:
    finished = done = 0

    def advance(of_item: int) -> None:
        nonlocal done
        done = of_item
        progress(finished + done)

    for item in items:
        yield item, task(item, advance)
        finished, done = finished + done, 0


class _Worker:
    """A worker process and its current item."""

    def __init__(self, context: Any, task: Task, counts: Any, number: int, lifeline: Connection):
        self.number = number
        self.start(context, task, counts, lifeline)

    def start(self, context: Any, task: Task, counts: Any, lifeline: Connection) -> None:
        """Starts the process, or a replacement for one that died."""
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(task, theirs, counts, self.number, lifeline), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, item: Item, attempts: int) -> None:
        """Sends an item to the process."""
        self.item, self.attempts = item, attempts
        with suppress(BrokenPipeError):  # if the process died, `outcome` reports it
            self.connection.send(item)

    def outcome(self) -> Any:
        """Returns the outcome of the item; None if the process died.

        Raises:
          OSError: the task raised it in the worker.
        """
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):  # OSError if it died while sending
            self.process.join()
            self.connection.close()
            return None
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def death(self) -> str:
        """Describes how the process ended."""
        code = self.process.exitcode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"its process ended {how} {ATTEMPTS} times, perhaps because memory ran out: use fewer --workers"


def _work(task: Task, connection: Connection, counts: Any, number: int, lifeline: Connection) -> None:
    """Runs the items that a worker process receives, until it receives no more."""

    def exit_with_parent():
        lifeline.poll(None)
        os._exit(1)

    def advance(done: int) -> None:
        counts[number] = done

    threading.Thread(target=exit_with_parent, daemon=True).start()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            outcome = task(item, advance)
        except OSError as error:
            outcome = error
        connection.send(outcome)


@contextmanager
def _delayed_interrupts() -> Iterator[None]:
    """Delays Ctrl-C until the body ends. Processes started in it never receive Ctrl-C: they inherit the signal mask."""
    resource_tracker.ensure_running()  # starting it later would unblock the signal again
    caught = []
    # The mask applies to this thread only. If another thread receives the signal, the handler still runs here.
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

"""Shards written by parallel processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager

import numpy as np

from data_prep import felzenszwalb, shards
from data_prep.shards import Report, Shard

POLL_SECONDS = 0.2

_num_done = None  # in a worker: the count of images that all workers share


def write_all(
    pending: Sequence[Shard], workers: int, progress: Callable[[int], None]
) -> Iterator[tuple[Shard, Report]]:
    """Writes shards in `workers` processes, in this one if it is 1; yields each with its report when it is done.

    When the caller stops listening, is interrupted or dies (SIGKILL included), the workers end at once.

    Args:
      pending: the work items.
      workers: number of processes.
      progress: called now and then with the number of images done so far.

    Raises:
      concurrent.futures.process.BrokenProcessPool: a worker died.
      OSError: a shard cannot be written.
    """
    if workers == 1 or not pending:
        yield from _write_here(pending, progress)
        return
    if pending[0].scales:
        # Compiled once here, the kernels come from Numba's cache in every worker.
        felzenszwalb.layers(np.zeros((2, 2, 3), np.uint8), pending[0].scales)
    context = multiprocessing.get_context("spawn")
    done = context.Value("q")
    # Nothing is ever sent: the workers' end reads end-of-file when this process closes its end or dies.
    their_end, our_end = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(min(workers, len(pending)), context, _start_worker, (done, their_end))
    try:
        with _interrupts_held_back():
            waiting = {executor.submit(_write_in_worker, shard): shard for shard in pending}
        while waiting:
            ready, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            progress(done.value)
            for future in ready:
                yield waiting.pop(future), future.result()
    finally:
        our_end.close()
        executor.shutdown(cancel_futures=True)
        their_end.close()


def _write_here(pending: Sequence[Shard], progress: Callable[[int], None]) -> Iterator[tuple[Shard, Report]]:
    done = 0

    def advance():
        nonlocal done
        done += 1
        progress(done)

    for shard in pending:
        yield shard, shards.write(shard, advance)


def _start_worker(done, their_end) -> None:
    global _num_done
    _num_done = done

    def exit_with_parent():
        their_end.poll(None)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _write_in_worker(shard: Shard) -> Report:
    def advance():
        with _num_done.get_lock():
            _num_done.value += 1

    return shards.write(shard, advance)


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

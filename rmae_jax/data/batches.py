"""The stream of training batches: a pure function of (seed, step), whatever the number of hosts and workers."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import resource_tracker

import grain
import numpy as np
from absl import flags

from rmae_jax.data.examples import Example, Examples, RandomExamples
from rmae_jax.data.region_filter import RegionFilter
from rmae_jax.data.shared_memory import check_shared_memory
from rmae_jax.data.tfrecord_source import DatasetError, RecordError, TFRecordSource

# Decoders and resizing release Python's global lock, the rest (about a tenth of the time) does not: more threads than
# this do not help, more processes (`workers`) do.
_MAX_THREADS = 16

# Second part of a generator's seed: what it draws (an epoch's order, an example's augmentation, a replacement record).
_ORDER, _EXAMPLE, _REPLACEMENT = 0, 1, 2

_ATTEMPTS = 10  # replacements drawn for one corrupt record


def batches(
    source: TFRecordSource,
    *,
    seed: int,
    batch_size: int,
    image_size: int,
    num_regions: int,
    region_filter: RegionFilter | None = None,
    on_error: str = "error",
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
    workers: int = 0,
    threads: int | None = None,
) -> Iterator[Example]:
    """Returns an endless iterator over this host's rows of every global batch, from `start_step` on.

    Each epoch visits every record once, in its own random order; a batch may span two epochs. An example's random
    choices are keyed by its position in the stream of epochs. Host p of P takes rows p*B/P to (p+1)*B/P: the hosts'
    rows, concatenated in order, are the global batch, which is the same for every P.

    With `on_error` "skip", a corrupt record at position n of the stream is replaced by another record. Attempt a = 1,
    2, ..., 10 draws np.random.default_rng((seed, 2, n, a)).integers(number of records), until a record is not corrupt.

    Args:
      source: the records.
      seed: the seed of the epochs' orders and of every augmentation, 0 <= seed < 2**32.
      batch_size: B, the size of the global batch.
      image_size: S, in pixels.
      num_regions: K regions per image; 0 omits "regions" and does not unpack label maps, for MAE.
      region_filter: which regions may be drawn; by default all that are present.
      on_error: how a corrupt record is handled, "error" or "skip".
      start_step: the first batch to yield.
      host: the index of this host.
      num_hosts: P, the number of hosts.
      workers: number of processes that prepare batches; 0 prepares them in threads of this process.
      threads: number of threads per process; by default the processes share the cores.

    Yields:
      images: uint8 (B / P, S, S, 3), RGB.
      regions: uint8 (uint16, uint32) (B / P, S, S) for K up to 8 (16, 32); bit k is the k-th region's map.
      permutation: int32 (B / P, L), the order of the patches for the regions' mask; only with foreground sampling.
      record: int64 (B / P), the records' numbers in the split.
      damaged: int64 (B / P), the corrupt record that this row's record replaces, or -1; only with `on_error` "skip".

    Raises:
      ValueError: an argument is out of range; raised by the call, not at the first batch.
      SharedMemoryError: the batches of the workers do not fit into /dev/shm; raised by the call.
      DatasetError: the dataset is empty, or regions are requested and it has none. Raised while iterating: a record is
        corrupt (with "skip", all its replacements too), or a shard cannot be read.
    """
    examples = RandomExamples(source, image_size, num_regions, region_filter)
    return stream(
        examples,
        seed=seed,
        batch_size=batch_size,
        on_error=on_error,
        start_step=start_step,
        host=host,
        num_hosts=num_hosts,
        workers=workers,
        threads=threads,
    )


def stream(
    examples: Examples,
    *,
    seed: int,
    batch_size: int,
    on_error: str = "error",
    start_step: int = 0,
    host: int = 0,
    num_hosts: int = 1,
    workers: int = 0,
    threads: int | None = None,
) -> Iterator[Example]:
    """Returns the stream of batches of any kind of example; see `batches` for its arguments and guarantees."""
    if batch_size < 1 or num_hosts < 1 or batch_size % num_hosts:
        raise ValueError(f"batch_size {batch_size} is not a positive multiple of the number of hosts, {num_hosts}")
    if not 0 <= host < num_hosts:
        raise ValueError(f"host is {host}; it must be at least 0 and less than num_hosts, {num_hosts}")
    if not 0 <= seed < 2**32 or start_step < 0 or workers < 0:
        raise ValueError(
            f"seed {seed} must be 0 to 2**32 - 1; start_step {start_step} and workers {workers} must not be negative"
        )
    if on_error not in ("error", "skip"):
        raise ValueError(f"on_error is {on_error!r}; it must be error or skip")
    if threads is None:
        threads = min(_MAX_THREADS, max(1, _cores() // max(1, workers)))
    rows = batch_size // num_hosts
    rows_of_host = _HostExamples(examples, seed, on_error, start_step, batch_size, host * rows, rows, max(1, workers))
    if workers and not isinstance(example := rows_of_host[0], DatasetError):
        check_shared_memory(example, rows, workers)
    dataset = grain.MapDataset.source(rows_of_host)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    dataset = dataset.batch(rows, batch_fn=_stack)
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_start_worker)
        dataset = dataset.map(_copy)
    return _Batches(grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1))


def _cores() -> int:
    """Returns the number of cores that this process may use; on macOS, which does not report it, all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _HostExamples:
    """One host's examples of every global batch, in the order in which grain requests them.

    Grain gives example i to worker i % W, as that worker's example i // W. Worker w prepares batches w, w + W, ...:
    each worker produces whole batches, and the order of batches does not depend on W.

    Epoch e of the stream is a permutation of the records drawn from (seed, e); the augmentation of the stream's example
    n is drawn from (seed, n). Grain's own shuffle is not used: with a handful of records it takes 2 ms per example.
    """

    def __init__(
        self,
        examples: Examples,
        seed: int,
        on_error: str,
        start_step: int,
        batch_size: int,
        first_row: int,
        rows: int,
        workers: int,
    ):
        self._examples, self._seed, self._on_error = examples, seed, on_error
        self._first = start_step * batch_size + first_row
        self._batch_size, self._rows, self._workers = batch_size, rows, workers
        self._epochs: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Example | DatasetError:
        """Returns an example, or its error: if it were raised, grain would leak the batches of other workers."""
        try:
            return self._example_at(self._position(index))
        except DatasetError as error:
            return error

    def _position(self, index: int) -> int:
        """Returns the position in the stream of the example that grain requests as `index`."""
        position, worker = divmod(index, self._workers)
        batch, row = divmod(position, self._rows)
        return self._first + (batch * self._workers + worker) * self._batch_size + row

    def _example_at(self, position: int) -> Example:
        epoch, place_in_epoch = divmod(position, len(self._examples.source))
        record = int(self._order(epoch)[place_in_epoch])
        if self._on_error == "error":
            return self._example(record, position)
        try:
            return self._example(record, position) | {"damaged": np.int64(-1)}
        except RecordError as error:
            return self._replacement(position, error) | {"damaged": np.int64(record)}

    def _example(self, record: int, position: int) -> Example:
        return self._examples(record, np.random.default_rng((self._seed, _EXAMPLE, position)))

    def _replacement(self, position: int, error: RecordError) -> Example:
        for attempt in range(1, _ATTEMPTS + 1):
            rng = np.random.default_rng((self._seed, _REPLACEMENT, position, attempt))
            try:
                return self._example(int(rng.integers(len(self._examples.source))), position)
            except RecordError:
                continue
        raise DatasetError(f"{error}; {_ATTEMPTS} records drawn to replace it are corrupt too") from error

    def __repr__(self) -> str:
        return f"examples of {self._examples.source}"

    def _order(self, epoch: int) -> np.ndarray:
        """Returns the records in the order of an epoch; two epochs are cached, for batches that span them."""
        order = self._epochs.get(epoch)
        if order is None:
            order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(len(self._examples.source))
            self._epochs = {e: kept for e, kept in self._epochs.items() if e == epoch - 1} | {epoch: order}
        return order


class _Batches(Iterator[Example]):
    """The iterator that `batches` returns.

    Attributes:
      close: a function that ends the threads and processes. It is called automatically when the iterator is deleted and
        when Python exits.
    """

    def __init__(self, dataset: grain.IterDataset):
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads its flags, which only absl.app would parse
        # In a list, so that `close` can delete it: grain's iterators print errors if Python deletes them at exit.
        self._iterator = [iter(dataset)]
        with _without_interrupts():  # now, so that workers load while the model compiles
            self._iterator[0].start_prefetch()
        self.close = weakref.finalize(self, _close, self._iterator)

    def __next__(self) -> Example:
        if not self._iterator:
            raise ValueError("the stream of batches is closed")
        batch = next(self._iterator[0])
        if isinstance(batch, DatasetError):
            self.close()
            raise batch
        return batch


def _stack(examples: list[Example | DatasetError]) -> Example | DatasetError:
    """Stacks examples into a batch; returns the first error instead if there is one."""
    error = next((example for example in examples if isinstance(example, DatasetError)), None)
    return error or {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _copy(batch: Example | DatasetError) -> Example | DatasetError:
    """Copies a batch out of the workers' shared memory, which would leak if a batch still referred to it at exit."""
    if isinstance(batch, DatasetError):
        return batch
    return {key: np.array(array) for key, array in batch.items()}


def _close(iterator: list[grain.DatasetIterator]) -> None:
    iterator.pop().close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C for threads and processes that are started within; the main thread ends them."""
    # Starting multiprocessing's resource tracker unblocks the signal, so start it first.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(index: int, count: int) -> None:
    """Starts a thread in a worker process that ends it with the main process, even if that is killed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

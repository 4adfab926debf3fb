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
from rmae_jax.data.tfrecord_source import DatasetError, RecordError, TFRecordSource

# The kernels and decoders release Python's lock, the rest (about a tenth) does not: beyond this, take processes.
_MAX_THREADS = 16

# What a generator's seed is for: the order of an epoch, the choices for an example, or what replaces its record.
_ORDER, _EXAMPLE, _REPLACEMENT = 0, 1, 2

_ATTEMPTS = 10  # replacements drawn for one damaged record


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
    """Yields this host's rows of every global batch from `start_step` on, without end.

    Each epoch visits every record once, in an order of its own; a batch may span two epochs. The random choices of
    an example are keyed by its place in the stream of epochs. Host p of P takes rows p*B/P to (p+1)*B/P, so the
    batches of the hosts in order make up the global batch, the same for every P.

    With `on_error` "skip", a damaged record is replaced by another, drawn by its place in the stream n: attempt a =
    1, 2, ..., 10 takes np.random.default_rng((seed, 2, n, a)).integers(number of records), until one is undamaged.

    Args:
      source: the records.
      seed: of the order and of every augmentation, 0 <= seed < 2**32.
      batch_size: B, of the global batch.
      image_size: S, in pixels.
      num_regions: K regions per image; 0 leaves "regions" out and label maps packed, for MAE.
      region_filter: which regions may be drawn; by default all that are present.
      on_error: what to do about a damaged record, "error" or "skip".
      start_step: the first batch to yield.
      host: index of this host.
      num_hosts: P.
      workers: processes that prepare batches; 0 prepares them in threads of this process.
      threads: per process; by default the cores are shared among the processes.

    Yields:
      images: uint8 (B / P, S, S, 3), RGB.
      regions: uint8 (uint16, uint32) (B / P, S, S) for K up to 8 (16, 32); bit k is the k-th region's map.
      permutation: int32 (B / P, L), the order of the patches for the regions' mask; with foreground sampling alone.
      record: int64 (B / P), numbers of the records in the split.
      damaged: int64 (B / P), the damaged record that the row's record replaces, or -1; with `on_error` "skip" alone.

    Raises:
      ValueError: an argument is out of range; at once, not at the first batch.
      DatasetError: the dataset is empty, or regions are asked for and it has none; later, a record is damaged (with
        "skip", also those that were to replace it), or a shard cannot be read.
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
    """The stream of batches of any kind of example; see `batches` for the arguments and what it promises."""
    if batch_size < 1 or num_hosts < 1 or batch_size % num_hosts:
        raise ValueError(f"batch_size {batch_size} is not a positive multiple of the number of hosts, {num_hosts}")
    if not 0 <= host < num_hosts:
        raise ValueError(f"host is {host}; it must be one of the {num_hosts} hosts, counted from 0")
    if not 0 <= seed < 2**32 or start_step < 0 or workers < 0:
        raise ValueError(f"seed {seed} (< 2**32), start_step {start_step}, workers {workers}: none may be negative")
    if on_error not in ("error", "skip"):
        raise ValueError(f"on_error is {on_error!r}; it must be error or skip")
    if threads is None:
        threads = min(_MAX_THREADS, max(1, _cores() // max(1, workers)))
    rows = batch_size // num_hosts
    rows_of_host = _HostExamples(examples, seed, on_error, start_step, batch_size, host * rows, rows, max(1, workers))
    dataset = grain.MapDataset.source(rows_of_host)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    dataset = dataset.batch(rows, batch_fn=_stack)
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_start_worker)
        dataset = dataset.map(_copy)
    return _Batches(grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1))


def _cores() -> int:
    """Cores that this process may use; macOS does not tell and gives all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class _HostExamples:
    """One host's examples of every global batch, in the order in which grain asks for them.

    Example i goes to worker i % W as its example i // W (so grain deals them), and worker w prepares batches w, w + W,
    ...: whole batches come out of each worker, and the order of batches does not depend on W.

    Epoch e of the stream is a permutation of the records drawn from (seed, e); the choices for the stream's example n
    are drawn from (seed, n). Grain's own shuffle is not used: with a handful of records it takes 2 ms per example.
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
        """An example; an error is returned, since grain leaks the batches of other workers where one is raised."""
        try:
            return self._at(self._place(index))
        except DatasetError as error:
            return error

    def _place(self, index: int) -> int:
        """The place in the stream of what grain asks for."""
        position, worker = divmod(index, self._workers)
        batch, row = divmod(position, self._rows)
        return self._first + (batch * self._workers + worker) * self._batch_size + row

    def _at(self, place: int) -> Example:
        epoch, place_in_epoch = divmod(place, len(self._examples.source))
        record = int(self._order(epoch)[place_in_epoch])
        if self._on_error == "error":
            return self._example(record, place)
        try:
            return self._example(record, place) | {"damaged": np.int64(-1)}
        except RecordError as error:
            return self._replacement(place, error) | {"damaged": np.int64(record)}

    def _example(self, record: int, place: int) -> Example:
        return self._examples(record, np.random.default_rng((self._seed, _EXAMPLE, place)))

    def _replacement(self, place: int, error: RecordError) -> Example:
        for attempt in range(1, _ATTEMPTS + 1):
            rng = np.random.default_rng((self._seed, _REPLACEMENT, place, attempt))
            try:
                return self._example(int(rng.integers(len(self._examples.source))), place)
            except RecordError:
                continue
        raise DatasetError(f"{error}; {_ATTEMPTS} records drawn to replace it are damaged too") from error

    def __repr__(self) -> str:
        return f"examples of {self._examples.source}"

    def _order(self, epoch: int) -> np.ndarray:
        """The records in the order of an epoch; keeps two epochs, for the batches that span them."""
        order = self._epochs.get(epoch)
        if order is None:
            order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(len(self._examples.source))
            self._epochs = {e: kept for e, kept in self._epochs.items() if e == epoch - 1} | {epoch: order}
        return order


class _Batches(Iterator[Example]):
    """The iterator that `batches` returns.

    Attributes:
      close: ends the threads and processes. Runs by itself when the iterator is deleted and when Python exits.
    """

    def __init__(self, dataset: grain.IterDataset):
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain reads its flags, which nobody parses outside of absl.app
        # Held in a list so that closing also drops it: grain's iterators complain when Python's exit deletes them.
        self._iterator = [iter(dataset)]
        with _without_interrupts():  # at once: workers load while the model compiles
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
    """A batch of examples; the first error in place of one that has any."""
    error = next((example for example in examples if isinstance(example, DatasetError)), None)
    return error or {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _copy(batch: Example | DatasetError) -> Example | DatasetError:
    """Out of the shared memory in which workers hand over batches: whoever holds one at exit would leak it."""
    if isinstance(batch, DatasetError):
        return batch
    return {key: np.array(array) for key, array in batch.items()}


def _close(iterator: list[grain.DatasetIterator]) -> None:
    iterator.pop().close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Threads and processes started from here never see Ctrl-C: it is the main thread that ends them."""
    # Starting multiprocessing's tracker would unblock the signal again: have it started before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(index: int, count: int) -> None:
    """Runs in each worker process: it ends with the main process, even if that is killed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

"""The Apache Beam engine, which writes shards on the machines of a Beam runner.

All machines must see the same files, in folders that they share or in an object store.
"""

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from data_prep import shards
from data_prep.engines.retry import Failure, Outcomes, attempt
from data_prep.errors import PrepError
from data_prep.shards import Shard
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath, parse_path, read_range

POLL_SECONDS = 2


def require(options: Sequence[str]) -> None:
    """Checks that Beam is installed and accepts the options, before anything is written.

    Raises:
      PrepError: Beam is not installed.
      SystemExit: an option has a wrong value; Beam has printed which one.
    """
    try:
        import apache_beam  # noqa: F401
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise PrepError("--runner=beam needs Apache Beam: pip install -e .[beam]") from error
    PipelineOptions(list(options)).get_all_options()


def write_all(pending: Sequence[Shard], options: Sequence[str], progress: Callable[[int], None]) -> Outcomes:
    """Writes shards in a Beam pipeline; yields each with its outcome after the pipeline has ended.

    The work items are saved in a file of the job's scratch folder, and the pipeline carries only their offsets in it,
    so its graph stays small. Results come back through the shards' reports. A work item that fails is retried and then
    reported; it does not end the pipeline.

    Args:
      pending: the work items.
      options: options of Beam's command line, such as --runner=DataflowRunner.
      progress: called from time to time with the number of images in finished shards.

    Raises:
      PrepError: the pipeline failed as a whole.
    """
    if not pending:
        return
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    items = _save(pending)
    try:
        with (
            _progress_thread(pending, progress),
            apache_beam.Pipeline(options=PipelineOptions(list(options))) as pipeline,
        ):
            places = pipeline | "work items" >> apache_beam.Create(items)
            _ = places | "spread" >> apache_beam.Reshuffle() | "write shards" >> apache_beam.Map(_write)
    except Exception as error:  # each runner has its own exceptions
        *_, message = str(error).strip().splitlines() or [type(error).__name__]  # the last line follows a traceback
        raise PrepError(f"the Beam pipeline failed: {message}; the same command resumes") from error
    for shard in pending:
        yield shard, shards.finished(shard) or _failure(shard)


def _save(pending: Sequence[Shard]) -> list[tuple[str, int, int]]:
    """Writes the work items to a file in the scratch folder; returns the path, offset and size of each."""
    scratch = pending[0].scratch
    for earlier in scratch.glob("*.failure"):
        earlier.unlink()
    path, items = scratch / "work.items", []
    with atomic_write(path, scratch) as out:
        for shard in pending:
            item = pickle.dumps(shard)
            items.append((str(path), out.tell(), len(item)))
            out.write(item)
    return items


def _write(item: tuple[str, int, int]) -> None:
    """Runs in a Beam worker: reads a work item from its path, offset and size, and writes the shard."""
    path, offset, size = item
    shard = pickle.loads(read_range(parse_path(path), offset, size))
    outcome = attempt(shard, advance=lambda done: None)
    if isinstance(outcome, Failure):
        with atomic_write(_failure_path(shard), shard.scratch) as out:
            out.write(outcome.reason.encode())


def _failure_path(shard: Shard) -> AnyPath:
    return shard.scratch / f"{shard.path.name}.failure"


def _failure(shard: Shard) -> Failure:
    try:
        return Failure(_failure_path(shard).read_text())
    except FileNotFoundError:
        return Failure("the pipeline ended without writing it")


@contextmanager
def _progress_thread(pending: Sequence[Shard], progress: Callable[[int], None]) -> Iterator[None]:
    """Reports progress from a thread while the pipeline runs, since Beam reports nothing until its end."""
    ended = threading.Event()

    def watch():
        while not ended.wait(POLL_SECONDS):
            there = {path.name for path in pending[0].path.parent.iterdir()}
            progress(sum(len(shard.images) for shard in pending if shard.path.name in there))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()

"""Shards written by Apache Beam, on whatever machines its runner has; all must see the same files."""

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_prep import files, shards
from data_prep.engines.attempt import Failure, Outcomes, attempt
from data_prep.errors import PrepError
from data_prep.shards import Shard

POLL_SECONDS = 2


def write_all(pending: Sequence[Shard], options: Sequence[str], progress: Callable[[int], None]) -> Outcomes:
    """Writes shards in a Beam pipeline; yields each with its outcome when the pipeline has ended.

    The pipeline carries only the names of work items, which lie in the job's scratch folder, so that its graph stays
    small; results come back through the shards' reports. A work item that fails is tried again and then reported,
    and does not end the pipeline.

    Args:
      pending: the work items.
      options: of Beam's command line, such as --runner=DataflowRunner.
      progress: called now and then with the number of images in finished shards.

    Raises:
      PrepError: Beam is not installed, or the pipeline failed as a whole.
    """
    if not pending:
        return
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise PrepError("--runner=beam needs Apache Beam: pip install -e .[beam]") from error
    items = [str(_save(shard)) for shard in pending]
    try:
        with _watched(pending, progress), apache_beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            names = pipeline | "work items" >> apache_beam.Create(items)
            _ = names | "spread" >> apache_beam.Reshuffle() | "write shards" >> apache_beam.Map(_write)
    except Exception as error:  # each runner has its own
        *_, message = str(error).strip().splitlines() or [type(error).__name__]  # behind a traceback
        raise PrepError(f"the Beam pipeline failed: {message}; the same command resumes") from error
    for shard in pending:
        yield shard, shards.finished(shard) or Failure(_failure_path(shard).read_text())


def _save(shard: Shard) -> Path:
    """Writes a work item to the scratch folder; returns its path."""
    path = shard.scratch / f"{shard.path.name}.item"
    with files.replacing(path, shard.scratch) as out:
        pickle.dump(shard, out)
    with files.replacing(_failure_path(shard), shard.scratch) as out:
        out.write(b"the pipeline ended without it")
    return path


def _write(item: str) -> None:
    """What a Beam worker does with the path of a work item."""
    shard = pickle.loads(Path(item).read_bytes())
    outcome = attempt(shard, advance=lambda: None)
    if isinstance(outcome, Failure):
        with files.replacing(_failure_path(shard), shard.scratch) as out:
            out.write(outcome.reason.encode())


def _failure_path(shard: Shard) -> Path:
    return shard.scratch / f"{shard.path.name}.failure"


@contextmanager
def _watched(pending: Sequence[Shard], progress: Callable[[int], None]) -> Iterator[None]:
    """Reports progress from a thread while the pipeline runs: it tells nothing until its end."""
    ended = threading.Event()

    def watch():
        while not ended.wait(POLL_SECONDS):
            progress(sum(len(shard.images) for shard in pending if shard.path.exists()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()

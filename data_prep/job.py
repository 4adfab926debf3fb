"""A whole job: turns images into a dataset of region records, and resumes where an earlier run was killed."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from data_prep import shards
from data_prep.dataset import inputs, writer
from data_prep.dataset.metadata import finished_metadata
from data_prep.engines import beam, local
from data_prep.engines.retry import Failure, Outcomes, attempt
from data_prep.errors import PrepError
from data_prep.plan import Job, Options, difference, plan
from data_prep.regions import coco_annotations
from data_prep.regions.region_source import MapMaker
from data_prep.shards import Shard, Summary
from data_prep.storage.atomic_write import atomic_write, remove_unfinished
from data_prep.storage.paths import AnyPath, file_lock, remove_tree

MAX_BAD = 0.01
LOCK = "lock"
EXAMPLES = 3  # images or shards named in a message


def prepare(
    images: AnyPath | None,
    output: AnyPath,
    *,
    workers: int | None = None,
    max_bad: float = MAX_BAD,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Prepares one split of a dataset; does nothing if an earlier run has finished it.

    The files do not depend on the number of workers or on how often the job was killed and restarted.

    Args:
      images: folder of image files; None if the options name another source.
      output: the dataset's folder.
      workers, max_bad, overwrite: see `run`.
      options: the other fields of `data_prep.plan.Options`.

    Returns:
      The metadata of the split, see `data_prep.dataset`.

    Raises:
      PrepError: an option is wrong, an earlier job differs, too many images are bad, or shards failed.
      OSError: the output cannot be written.
    """
    job = plan(Options(images=images, output=output, **options))
    return run(job, workers=workers, max_bad=max_bad, overwrite=overwrite)


def run(
    job: Job,
    *,
    workers: int | None = None,
    beam_options: Sequence[str] | None = None,
    max_bad: float = MAX_BAD,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Runs a planned job, see `prepare`.

    Args:
      job: the planned job.
      workers: number of local processes; by default one for each CPU that this process may use.
      beam_options: options of Beam's command line; runs the work items with Apache Beam instead of local processes.
      max_bad: largest fraction of the images that may be skipped as unreadable.
      overwrite: deletes what an earlier job with this output, name and split has written.
      progress: called with the number of finished images, including those of earlier runs, and the total number;
        first before any work is done, and never for a job that is already finished.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise PrepError(f"{workers} workers are too few; give 1 or more")
    if not 0 <= max_bad <= 1:
        raise PrepError(f"max_bad {max_bad:g} is not a fraction between 0 and 1")
    if not overwrite:
        finished = finished_metadata(job.place)
        if finished is not None:
            _refuse_difference(job, finished, job.place.inputs_path)
            missing = writer.missing_part(job.place, finished)
            if missing is not None:
                raise PrepError(f"{job.output}: {missing}; restore it, or prepare this split with --overwrite")
            if job.scratch.exists():  # the earlier run was killed between its last two steps
                remove_tree(job.scratch)
            return finished
    engine = _engine(workers, beam_options)
    _refuse_other_datasets(job)
    job.scratch.mkdir(parents=True, exist_ok=True)
    with _exclusive_run(job):
        work = job.shards(_start_or_resume(job, overwrite))
        notes = [note for source in job.regions for note in source.notes(job.scratch)]
        num_examples = _write_shards(job, work, engine, max_bad, progress)
        reports = (shards.read_report(shard) for shard in work)
        metadata = writer.finish(
            job.place, job.description | ({"notes": notes} if notes else {}), job.inputs, num_examples, reports
        )
    remove_tree(job.scratch)
    return metadata


def _engine(workers: int, beam_options: Sequence[str] | None) -> Callable[..., Outcomes]:
    if beam_options is None:
        return lambda pending, progress: local.run(attempt, pending, workers, progress)
    beam.require(beam_options)
    return lambda pending, progress: beam.write_all(pending, beam_options, progress)


def _write_shards(
    job: Job,
    work: Sequence[Shard],
    engine: Callable[..., Outcomes],
    max_bad: float,
    progress: Callable[[int, int], None],
) -> int:
    """Writes the missing shards; returns the number of records in all shards."""
    total = job.source.num_images
    tally, pending, failures = _Tally(total, max_bad), [], []
    for shard in work:
        summary = shards.finished(shard)
        if summary is None:
            pending.append(shard)
        else:
            tally.add(summary)
    done_before = total - sum(len(shard.images) for shard in pending)
    progress(done_before, total)
    tally.refuse_bad()
    for shard, outcome in engine(pending, lambda done: progress(done_before + done, total)):
        if isinstance(outcome, Failure):
            failures.append(f"{shard.path.name} ({outcome.reason})")
        else:
            tally.add(outcome)
            tally.refuse_bad()
    if failures:
        raise PrepError(
            f"{len(failures)} of {len(work)} shards failed: {_first_few(failures)}; the others are saved: "
            "run the same command again to write the missing ones"
        )
    progress(total, total)
    if not tally.num_examples:
        raise PrepError(f"none of the {total} images is usable: {_first_few(tally.bad)}")
    return tally.num_examples


@dataclasses.dataclass
class _Tally:
    """Statistics of the finished shards of a job.

    Attributes:
      total: number of images in the job.
      max_bad: largest fraction of them that may be skipped.
      num_examples: number of records written.
      bad: id and reason of each skipped image.
    """

    total: int
    max_bad: float
    num_examples: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)

    def add(self, summary: Summary) -> None:
        """Adds the counts of a finished shard."""
        self.num_examples += summary.num_examples
        self.bad += [f"{entry['image_id']} ({entry['reason']})" for entry in summary.skipped]

    def refuse_bad(self) -> None:
        """Raises PrepError as soon as it is certain that too many images are bad."""
        if len(self.bad) > self.max_bad * self.total:
            raise PrepError(
                f"{len(self.bad)} of {self.num_examples + len(self.bad)} images are bad, more than "
                f"--max_bad={self.max_bad:g} allows of {self.total}: {_first_few(self.bad)}; raise --max_bad to skip "
                "them, or repair them and run with --overwrite"
            )


def _first_few(what: Sequence[str]) -> str:
    return ", ".join(what[:EXAMPLES]) + (", ..." if len(what) > EXAMPLES else "")


def _refuse_other_datasets(job: Job) -> None:
    splits = writer.finished_splits(job.output, besides=job.place)
    other = next((split["name"] for split in splits if split["name"] != job.name), None)
    if other is not None:
        raise PrepError(f"{job.output} holds the dataset {other!r}; give its --name or another --output")
    for split in splits:
        expected, classes = split.get("classes", []), job.description["classes"]
        if classes == expected:
            continue
        missing = [name for name in expected if name not in classes]
        remedy = "give another --output"
        if classes and missing and not set(classes) - set(expected):
            remedy = f"create an empty folder for each missing class: {_first_few(missing)} ({len(missing)} in all)"
        raise PrepError(
            f"the classes are not those of split {split['split']!r} in {job.output}, so labels would differ; {remedy}"
        )


def _start_or_resume(job: Job, overwrite: bool) -> tuple[MapMaker, ...]:
    """Prepares the sources of regions, and saves the job's description and inputs unless an earlier run has.

    Files to overwrite are deleted only once nothing else can prevent the new job.
    """
    description = job.scratch / "job.json"
    listing = job.scratch / "inputs.jsonl"
    unfinished = description.exists()
    resumed = unfinished and not overwrite
    if resumed:
        try:
            before = json.loads(description.read_bytes())
        except ValueError as error:
            raise PrepError(f"{description} is corrupt; use --overwrite to start again") from error
        _refuse_difference(job, before, listing)
    elif not overwrite and job.place.shard_files():
        raise PrepError(
            f"{job.output} holds shards of {job.name}-{job.split} of unknown origin; use --overwrite to delete them"
        )
    remove_unfinished(job.scratch)
    try:
        makers = tuple(source.ready(job.scratch) for source in job.regions)
    except PrepError:
        if not unfinished:
            remove_tree(job.scratch)
            if not any(job.output.iterdir()):
                job.output.rmdir()
        raise
    if overwrite:
        _delete_earlier(job)
    if not resumed:
        with atomic_write(listing, job.scratch) as out:
            inputs.write(job.inputs, out)
        with atomic_write(description, job.scratch) as out:
            out.write(json.dumps(job.description).encode())
    return makers


def _refuse_difference(job: Job, before: dict[str, Any], listing: AnyPath) -> None:
    """Raises PrepError if an earlier job had other options or input files."""
    now = job.description
    kinds = ("images", "layers")  # reported first: other kinds have other files
    what = difference(before, now | {key: before.get(key) for key in now if key not in kinds})
    if what is None:
        try:
            what = inputs.difference(inputs.read(listing), job.inputs)
        except FileNotFoundError:
            what = f"{listing.name}, which lists its input files, is missing"
        except (ValueError, TypeError):
            what = f"{listing.name}, which lists its input files, is corrupt"
    what = what or difference(before, now)
    if what is not None:
        raise PrepError(
            f"{job.output} holds {job.name}-{job.split} of an earlier run with other inputs: {what}; "
            "use --overwrite to delete it, or another --output"
        )


def _delete_earlier(job: Job) -> None:
    """Deletes this split, its metadata first, and removes it from the TFDS files."""
    place = job.place
    place.metadata_path.unlink(missing_ok=True)
    for path in job.scratch.iterdir():
        if path.is_file() and path.name != LOCK and path.suffix != coco_annotations.SUFFIX:
            path.unlink()
    writer.rewrite_tfds(place)
    for path in (*place.shard_files(), place.index_path, place.skipped_path, place.inputs_path):
        path.unlink(missing_ok=True)


@contextmanager
def _exclusive_run(job: Job) -> Iterator[None]:
    """Prevents a second run from writing the same split at the same time; has no effect in an object store."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(job.scratch / LOCK, wait=False))
        except BlockingIOError as error:
            raise PrepError(f"another process is preparing {job.name}-{job.split} in {job.output}") from error
        yield

"""A whole job: photographs in, a dataset of region records out; resumed where an earlier run was killed."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep import dataset, files, pool, shards
from data_prep.plan import MAX_PIXELS, SCALES, Job, PrepError, difference, plan
from data_prep.shards import Report
from rmae_jax import tfrecord

__all__ = ["PrepError", "prepare", "run"]

MAX_BAD = 0.01
LOCK = "lock"


def prepare(
    images: Path,
    output: Path,
    *,
    name: str = "regions",
    split: str = "train",
    regions: str = "fh",
    scales: Sequence[int] = SCALES,
    shards: int | None = None,
    workers: int | None = None,
    max_bad: float = MAX_BAD,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prepares one split of a dataset; does nothing if an earlier run has finished it.

    The files do not depend on the number of workers nor on how often the job was killed and started again.

    Args:
      images: folder of image files, searched recursively.
      output: folder of the dataset; may hold other splits of it.
      name: of the dataset, the same for all its splits.
      split: of the dataset.
      regions: "fh" for Felzenszwalb-Huttenlocher regions, "none" for a dataset without regions.
      scales: one layer of FH regions for each.
      shards: number of shards; by default one for about 1,000 images.
      workers: number of processes; by default one for each CPU that this process may use.
      max_bad: the largest fraction of the images that may be left out as unreadable.
      max_pixels: images with more pixels are left out.
      overwrite: deletes what an earlier job with this output, name and split has written.

    Returns:
      The metadata of the split, see `rmae_jax.tfrecord`.

    Raises:
      PrepError: an option is wrong, an earlier job differs, too many images are bad, or a worker died.
      OSError: the output cannot be written.
    """
    job = plan(
        images,
        output,
        name=name,
        split=split,
        regions=regions,
        scales=scales,
        shards=shards,
        max_pixels=max_pixels,
    )
    return run(job, workers=workers, max_bad=max_bad, overwrite=overwrite)


def run(
    job: Job,
    *,
    workers: int | None = None,
    max_bad: float = MAX_BAD,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Runs a planned job, see `prepare`.

    Args:
      progress: called with the number of images done, those of earlier runs included, and the number of all;
        first before any work is done, and never for a job that is finished already.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise PrepError(f"{workers} workers are too few; give 1 or more")
    if not 0 <= max_bad <= 1:
        raise PrepError(f"max_bad {max_bad:g} is not a fraction between 0 and 1")
    if not overwrite:
        finished = dataset.read_metadata(job.output, job.name, job.split)
        if finished is not None:
            _refuse_difference(job, finished)
            if job.scratch.exists():  # killed between its last two steps
                shutil.rmtree(job.scratch)
            return finished
    others = {other["name"] for other in dataset.finished_splits(job.output)} - {job.name}
    if others:
        raise PrepError(f"{job.output} holds the dataset {others.pop()!r}; give its --name or another --output")
    job.scratch.mkdir(parents=True, exist_ok=True)
    with _only_run(job):
        if overwrite:
            _delete_earlier(job)
        _start_or_resume(job)
        reports = _write_shards(job, workers, max_bad, progress)
        if not any(report.offsets for report in reports):
            raise PrepError(f"none of the {len(job.image_ids)} images is usable: {_examples(reports)}")
        metadata = dataset.finish(job.output, job.scratch, job.description, reports)
    shutil.rmtree(job.scratch)
    return metadata


def _write_shards(job: Job, workers: int, max_bad: float, progress: Callable[[int, int], None]) -> list[Report]:
    """Writes the shards that are missing; reports of all, in order."""
    total = len(job.image_ids)
    reports = {shard: shards.finished(shard) for shard in job.shards()}
    pending = [shard for shard, report in reports.items() if report is None]
    done_before = total - sum(len(shard.image_ids) for shard in pending)
    progress(done_before, total)
    _refuse_bad(list(reports.values()), max_bad, total)
    try:
        for shard, report in pool.write_all(pending, workers, lambda done: progress(done_before + done, total)):
            reports[shard] = report
            _refuse_bad(list(reports.values()), max_bad, total)
    except BrokenProcessPool as error:
        raise PrepError(
            "a worker process died, perhaps for want of memory; run again to resume, with fewer --workers"
        ) from error
    progress(total, total)
    return list(reports.values())


def _refuse_bad(reports: Sequence[Report | None], max_bad: float, total: int) -> None:
    """Fails as soon as it is certain that too many images are bad."""
    known = [report for report in reports if report is not None]
    bad = sum(len(report.skipped) for report in known)
    if bad > max_bad * total:
        read = sum(len(report.offsets) for report in known) + bad
        raise PrepError(
            f"{bad} of {read} images are bad, more than --max_bad={max_bad:g} allows of {total}: "
            f"{_examples(known)}; raise --max_bad to leave them out, or mend them and run with --overwrite"
        )


def _examples(reports: Sequence[Report], count: int = 3) -> str:
    skipped = [f"{entry['image_id']} ({entry['reason']})" for report in reports for entry in report.skipped]
    return ", ".join(skipped[:count]) + (", ..." if len(skipped) > count else "")


def _start_or_resume(job: Job) -> None:
    description = job.scratch / "job.json"
    if description.exists():
        _refuse_difference(job, json.loads(description.read_bytes()))
    elif any(job.output.glob(_shard_pattern(job))):
        raise PrepError(f"{job.output} holds shards of {job.name}-{job.split} of unknown origin; use --overwrite")
    else:
        with files.replacing(description, job.scratch) as out:
            out.write(json.dumps(job.description).encode())
    for leftover in job.scratch.glob("*.tmp"):
        leftover.unlink()


def _refuse_difference(job: Job, before: dict[str, Any]) -> None:
    what = difference(before, job.description)
    if what is not None:
        raise PrepError(
            f"{job.output} holds {job.name}-{job.split} of an earlier run with other inputs: {what}; "
            "use --overwrite to delete it, or another --output"
        )


def _delete_earlier(job: Job) -> None:
    """Deletes this split, its metadata first, and takes it out of the TFDS files."""
    (job.output / tfrecord.metadata_name(job.name, job.split)).unlink(missing_ok=True)
    for path in job.scratch.iterdir():
        if path.is_file() and path.name != LOCK:
            path.unlink()
    others = dataset.finished_splits(job.output)
    if others:
        dataset.write_tfds(job.output, job.scratch, others)
    else:
        for name in ("features.json", "dataset_info.json"):
            (job.output / name).unlink(missing_ok=True)
    for path in (
        *job.output.glob(_shard_pattern(job)),
        job.output / tfrecord.index_name(job.name, job.split),
        job.output / tfrecord.skipped_name(job.name, job.split),
    ):
        path.unlink(missing_ok=True)


def _shard_pattern(job: Job) -> str:
    return tfrecord.shard_name(job.name, job.split, 0, 0).removesuffix("00000-of-00000") + "*"


@contextmanager
def _only_run(job: Job) -> Iterator[None]:
    """Keeps a second run from writing the same split at the same time."""
    with (job.scratch / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrepError(f"another process is preparing {job.name}-{job.split} in {job.output}") from error
        yield

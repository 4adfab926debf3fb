"""What engines do with work items that fail, kill their process or fill the disk; and that all give the same bytes."""

import dataclasses
import errno
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import small_images
from small_images import contents

from data_prep import job as jobs
from data_prep import plan
from data_prep.engines import beam, local, retry
from data_prep.engines.retry import ATTEMPTS, Failure
from data_prep.shards import Summary
from data_prep.sources.image_folder import ImageFolder

IN_MEMORY = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]
MULTI_PROCESSING = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve small images."""
    return small_images.write(tmp_path_factory.mktemp("images"), 12)


def planned(folder, output, **options):
    return plan.plan(plan.Options(images=folder, output=output, **{"scales": (50,), "shards": 4} | options))


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    jobs.run(planned(folder, output), workers=1)
    return contents(output)


@dataclasses.dataclass(frozen=True)
class Troubled:
    """Images of a folder that make trouble before the last one, the first `times` times."""

    files: ImageFolder
    trouble: str
    times: int
    log: Path

    num_images = property(lambda self: self.files.num_images)
    classes = ()
    notes = ()
    kind = "folder"

    def inputs(self):
        return self.files.inputs()

    def slice(self, start, stop):
        cut = self.files.slice(start, stop)
        return dataclasses.replace(self, files=cut) if "04.jpg" in cut.image_ids else cut

    def __len__(self):
        return len(self.files)

    def __iter__(self):
        *items, last = self.files
        yield from items
        with self.log.open("a") as log:
            log.write(f"{os.getpid()}\n")
        if len(self.log.read_text().splitlines()) <= self.times:
            if self.trouble == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise {"io": OSError(errno.EIO, os.strerror(errno.EIO)), "bug": KeyError("something")}[self.trouble]
        yield last


def troubled(folder, output, trouble, times):
    job = planned(folder, output)
    source = Troubled(job.source, trouble, times, output.parent / "log")
    return dataclasses.replace(job, source=source)


@pytest.fixture(autouse=True)
def importable_by_workers(monkeypatch):
    """Beam's processes look for this file's classes, and for what it imports."""
    here = Path(__file__)
    paths = (str(here.parent), str(here.parents[2]), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def engine(name):
    if name.startswith("beam"):
        pytest.importorskip("apache_beam")
    return {
        "here": {"workers": 1},
        "processes": {"workers": 2},
        "beam": {"beam_options": IN_MEMORY},
        "beam processes": {"beam_options": MULTI_PROCESSING},
    }[name]


@pytest.mark.parametrize("name", ["processes", "beam", "beam processes"])
def test_every_engine_gives_the_same_bytes(folder, undisturbed, tmp_path, name):
    seen = []
    jobs.run(planned(folder, tmp_path / "out"), **engine(name), progress=lambda *done: seen.append(done))
    assert contents(tmp_path / "out") == undisturbed
    assert seen[0] == (0, 12) and seen[-1] == (12, 12)


CASES = [
    ("here", "io"),
    ("here", "bug"),
    ("processes", "io"),
    ("processes", "bug"),
    ("processes", "killed"),
    ("beam", "io"),
    ("beam", "bug"),
    ("beam processes", "bug"),
]


@pytest.mark.parametrize(("name", "trouble"), CASES)
def test_a_work_item_that_fails_is_tried_again(folder, undisturbed, tmp_path, name, trouble):
    job = troubled(folder, tmp_path / "out", trouble, ATTEMPTS - 1)
    jobs.run(job, **engine(name))
    assert contents(tmp_path / "out") == undisturbed
    assert len((tmp_path / "log").read_text().splitlines()) == ATTEMPTS


@pytest.mark.parametrize(("name", "trouble"), CASES)
def test_what_fails_again_and_again_is_reported_and_the_rest_is_kept(folder, undisturbed, tmp_path, name, trouble):
    output = tmp_path / "out"
    reason = {
        "io": "Input/output error",
        "bug": "KeyError: 'something'",
        "killed": "its process ended by SIGKILL 3 times, perhaps because memory ran out",
    }[trouble]
    with pytest.raises(jobs.PrepError) as caught:
        jobs.run(troubled(folder, output, trouble, 100), **engine(name))
    message = str(caught.value)
    assert len((tmp_path / "log").read_text().splitlines()) == ATTEMPTS
    assert message.startswith("1 of 4 shards failed: regions-train.tfrecord-00001-of-00004 (") and reason in message
    assert "the others are saved" in message and "\n" not in message
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.tfrecord-*")}
    assert sorted(path.name[-14:] for path in kept) == ["00000-of-00004", "00002-of-00004", "00003-of-00004"]
    jobs.run(planned(folder, output), **engine(name))
    assert contents(output) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("name", ["here", "processes", "beam"])
def test_a_full_disk_ends_the_job_at_once(folder, undisturbed, tmp_path, name):
    output = tmp_path / "out"
    with pytest.raises((OSError, jobs.PrepError), match="No space left on device"):
        jobs.run(troubled(folder, output, "full", 100), **engine(name))
    assert len((tmp_path / "log").read_text().splitlines()) == 1
    assert not (output / "regions-train.tfrecord-00001-of-00004").exists()
    jobs.run(planned(folder, output), **engine(name))
    assert contents(output) == undisturbed


def test_progress_never_counts_an_image_twice(folder, tmp_path):
    for name, workers in (("here", 1), ("processes", 2)):
        seen = []
        (tmp_path / name).mkdir()
        job = troubled(folder, tmp_path / name / "out", "io", ATTEMPTS - 1)
        jobs.run(job, workers=workers, progress=lambda *done, seen=seen: seen.append(done))
        assert max(seen) == (12, 12)


def test_workers_end_with_the_caller(folder, tmp_path):
    """When nobody listens any more, no process is left behind."""

    def children() -> set[str]:
        return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())

    before = children()
    job = planned(folder, tmp_path / "out")
    job.scratch.mkdir(parents=True)
    work = job.shards(tuple(source.ready(job.scratch) for source in job.regions))
    outcomes = local.run(retry.attempt, work, 2, lambda done: None)
    next(outcomes)
    assert len(children() - before) >= 2
    outcomes.close()
    closed = time.monotonic()
    while len(children() - before) > 1:  # Python's resource tracker stays
        assert time.monotonic() < closed + 5
        time.sleep(0.01)


def test_beams_work_items_are_small_and_lie_in_the_scratch_folder(folder, tmp_path):
    job = planned(folder, tmp_path / "out")
    job.scratch.mkdir(parents=True)
    work = job.shards(())
    items = beam._save(work)
    assert {path for path, _, _ in items} == {str(job.scratch / "work.items")}
    shard = work[1]
    beam._write(items[1])
    assert [one.path.exists() for one in work] == [False, True, False, False]
    assert shard.path.exists() and json.loads(shard.report_path.read_bytes())["skipped"] == []


def test_without_beam_the_error_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(jobs.PrepError, match=r"needs Apache Beam: pip install -e .\[beam\]"):
        jobs.run(planned(folder, tmp_path / "out"), beam_options=[])
    assert not (tmp_path / "out").exists()


def test_an_attempt_gives_a_summary_or_a_reason(folder, tmp_path):
    job = planned(folder, tmp_path / "out", shards=1)
    job.scratch.mkdir(parents=True)
    (shard,) = job.shards(())
    assert retry.attempt(shard, lambda done: None) == Summary(12, [])
    missing = dataclasses.replace(shard, path=tmp_path / "missing" / "x")
    outcome = retry.attempt(missing, lambda done: None)
    assert isinstance(outcome, Failure)
    assert re.fullmatch(rf"\[Errno 2\] No such file or directory: '\S+' -> '{missing.path}'", outcome.reason)

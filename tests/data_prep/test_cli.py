"""The command as a user runs it: what it prints, how it exits, and what survives when it is stopped."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_images
from PIL import Image
from small_images import contents

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "data_prep")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty images, large enough that a job takes seconds."""
    return small_images.write(tmp_path_factory.mktemp("images"), 20, 480, 640)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    run(images=folder, output=output, shards=10, workers=1)
    return contents(output)


def arguments(**flags):
    return [*COMMAND, *(f"--{name}={value}" for name, value in flags.items())]


def run(status=0, **flags):
    result = subprocess.run(arguments(**flags), cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    return result


def start(**flags):
    """Starts the command in a process group of its own."""
    return subprocess.Popen(
        arguments(**flags), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def shards(output):
    return list(output.glob("*.tfrecord-*"))


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("workers", "kills"), [(1, (3,)), (2, (1, 4))])
def test_a_killed_job_resumes_and_ends_with_the_same_bytes(folder, undisturbed, tmp_path, workers, kills):
    output = tmp_path / "out"
    flags = {"images": folder, "output": output, "shards": 10, "workers": workers}
    kept = {}
    for num_shards in kills:  # killed when there are so many shards
        process = start(**flags)
        wait_for(lambda wanted=num_shards: len(shards(output)) >= wanted)
        workers_then = children(process)
        process.kill()
        process.communicate()
        wait_for(lambda pids=workers_then: not any(map(alive, pids)), 5)
        assert not (output / "regions-train.json").exists()
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        kept = {path: path.stat().st_mtime_ns for path in shards(output)}
        assert 1 <= len(kept) < 10
        for path in kept:
            assert path.read_bytes() == undisturbed[path.name]
    result = run(**flags)
    assert re.search(r"20 images, \d+ of them already done", result.stderr)
    assert contents(output) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_promptly_and_says_how_to_resume(folder, undisturbed, tmp_path, workers):
    output = tmp_path / "out"
    flags = {"images": folder, "output": output, "shards": 10, "workers": workers}
    process = start(**flags)
    wait_for(lambda: shards(output))
    pids = children(process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 130
    lines = stderr.splitlines()  # a slow machine's have progress between them
    assert (lines[0], lines[-1]) == ("20 images", "interrupted: the same command resumes where this one stopped")
    assert "Traceback" not in stderr
    wait_for(lambda: not any(map(alive, pids)), 5)
    run(**flags)
    assert contents(output) == undisturbed


def test_ctrl_c_while_workers_start(folder, tmp_path):
    process = start(images=folder, output=tmp_path / "out", shards=10, workers=2)
    wait_for(lambda: len(children(process)) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in stderr


def test_a_worker_that_dies_is_replaced(folder, undisturbed, tmp_path):
    flags = {"images": folder, "output": tmp_path / "out", "shards": 10, "workers": 2}
    process = start(**flags)
    wait_for(lambda: shards(tmp_path / "out"))
    # The first child is Python's own resource tracker.
    os.kill(children(process)[-1], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stderr.splitlines()[0] == "20 images" and "Traceback" not in stderr
    assert contents(tmp_path / "out") == undisturbed


def test_two_runs_at_once_are_refused(folder, tmp_path):
    flags = {"images": folder, "output": tmp_path / "out", "shards": 10, "workers": 1}
    process = start(**flags)
    wait_for(lambda: shards(tmp_path / "out"))
    process.send_signal(signal.SIGSTOP)
    try:
        assert "another process is preparing regions-train" in run(1, **flags).stderr
    finally:
        process.kill()
        process.communicate()


def test_closing_line_and_a_second_run(folder, tmp_path):
    flags = {"images": folder, "output": tmp_path / "out", "workers": 2, "scales": "200,400", "regions": "fh"}
    first = run(**flags)
    pattern = r"20 images \(0 skipped\), fh_200 [\d.]+ regions per image, fh_400 [\d.]+ regions per image, "
    assert re.fullmatch(pattern + rf"in [\d.]+ s: {tmp_path}/out\n", first.stdout)
    assert first.stderr.startswith("20 images\n")
    second = run(**flags)
    assert re.fullmatch(pattern + rf"already finished: nothing to do: {tmp_path}/out\n", second.stdout)
    assert second.stderr == ""


def test_a_terminal_gets_a_bar(folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        shutil.copy(folder / f"{i:02}.jpg", images)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        arguments(images=images, output=tmp_path / "out", workers=1), cwd=REPOSITORY, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            printed += os.read(ours, 4096)
        except OSError:  # how Linux reports that the other side is closed
            break
    os.close(ours)
    assert process.wait() == 0
    assert b"3/3" in printed and b"image/s" in printed
    assert printed.splitlines()[-1].startswith(b"3 images (0 skipped)")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"images": "missing"}, "missing is not a folder; give the folder that contains the images"),
        ({"images": "empty"}, "no images below empty; looked for .avif .bmp .gif"),
        ({"images": "a.txt"}, "a.txt is not a folder"),
        ({"output": "a.txt"}, "a.txt is a file; give a folder for the dataset"),
        ({"workers": 0}, "0 workers are too few; give 1 or more"),
        ({"regions": "voronoi"}, "unknown regions 'voronoi'; choose from fh, instances, panoptic, sam, label"),
        ({"regions": "fh,none"}, "unknown regions 'none'"),
        ({"regions": "fh,fh"}, "regions fh,fh: give each kind only once"),
        ({"regions": "fh:a.txt"}, "fh takes no path; choose its --scales"),
        ({"regions": "panoptic"}, "regions panoptic need a path; give --regions=panoptic:PATH"),
        ({"regions": "instances:a.txt"}, "a.txt is not JSON"),
        ({"annotations": "a.txt"}, "a.txt is not JSON: "),
        ({"annotations": "missing.json"}, "missing.json cannot be read: No such file"),
        ({"tfds": "coco:train"}, "give one of --images, --tfds or --webdataset, not --images and --tfds"),
        ({"images": None}, "give one of --images, --tfds or --webdataset, not none"),
        ({"images": None, "webdataset": "x.tar", "annotations": "a.json"}, "belong to --images, not to --webdataset"),
        ({"tfds_dir": "images"}, "--tfds_dir belongs to --tfds, not to --images"),
        ({"scales": "500,0"}, "scales 500,0: give different numbers of at least 1"),
        ({"scales": "500,500"}, "scales 500,500: give different numbers"),
        ({"shards": 0}, "0 shards are not between 1 and 1, for 1 images"),
        ({"shards": 2}, "2 shards are not between 1 and 1, for 1 images"),
        ({"max_bad": 2}, "max_bad 2 is not a fraction between 0 and 1"),
        ({"max_pixels": 0}, "max_pixels 0 is not between 1 and"),
        ({"name": "Coco-2017"}, "name 'Coco-2017': use lower-case letters, digits and underscores"),
        ({"split": "a/b"}, "split 'a/b': use letters, digits and underscores"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, tmp_path, monkeypatch, flags, message):
    from data_prep import __main__ as command

    (tmp_path / "images").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(folder / "00.jpg", tmp_path / "images")
    (tmp_path / "a.txt").write_text("text")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    values = {"images": "images", "output": "out"} | flags
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    monkeypatch.setattr(sys, "argv", ["data_prep", *given])
    printed = []
    monkeypatch.setattr(sys.stderr, "write", printed.append)
    assert command.main() == 1
    (line,) = "".join(printed).splitlines()
    assert line.startswith("error: ") and message in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "the following arguments are required: --output"),
        ({"images": "x", "output": "y", "scales": "big"}, "'big' is not a list of whole numbers such as 500,1000"),
        ({"images": "x", "output": "y", "workers": "two"}, "invalid int value: 'two'"),
        ({"images": "x", "output": "y", "sclaes": 500}, "unrecognized arguments: --sclaes=500"),
        ({"output": "y", "runner": "spark"}, "argument --runner: invalid choice: 'spark'"),
        ({"output": "y", "runner": "beam", "workers": 2}, "--workers is for local processes; give Beam's own options"),
        ({"output": "y", "": "--runner=DirectRunner"}, "options after -- are Beam's; they need --runner=beam"),
    ],
)
def test_usage_errors_exit_with_2(flags, message, monkeypatch, capsys):
    from data_prep import __main__ as command

    given = [part for name, value in flags.items() for part in ((f"--{name}={value}",) if name else ("--", value))]
    monkeypatch.setattr(sys, "argv", ["data_prep", *given])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_an_error(folder, tmp_path):
    (tmp_path / "file").touch()
    result = run(1, images=folder, output=tmp_path / "file" / "out")
    assert result.stderr.splitlines()[-1].startswith("error: ") and "Not a directory" in result.stderr


def test_a_disk_that_fills_up(folder, undisturbed, tmp_path):
    """A real file system of 1 MiB: a clear error, no half shard with a final name, and the job goes on later."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    flags = {"images": folder, "output": small / "out", "shards": 10, "workers": 2}
    try:
        result = run(1, **flags)
        assert result.stderr.splitlines()[-1].startswith("error: [Errno 28] No space left on device")
        finished = shards(small / "out")
        assert 0 < len(finished) < 10
        for path in finished:
            assert path.read_bytes() == undisturbed[path.name]
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        run(**flags)
        assert contents(small / "out") == undisturbed
    finally:
        subprocess.run(["umount", small], check=True)


LIVES = """
import json, os, signal, sys
from data_prep.__main__ import main  # once for all; before the hook: only the job's own doings count

def hook(event, arguments):
    global left
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if (written and "unfinished" in str(arguments[0])) or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

for line in sys.stdin:
    left, sys.argv[1:] = json.loads(line)
    process = os.fork()
    if not process:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.addaudithook(hook)
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture
def killed_at():
    """Gives the exit status of a job that is killed at the nth change of a file that it makes; at none if n is 0.

    Each job is a process of its own, forked from one that has imported what it needs.
    """
    command = [sys.executable, "-c", LIVES]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lives:

        def run_job(event, *flags):
            print(json.dumps([event, flags]), file=lives.stdin, flush=True)
            return int(lives.stdout.readline())

        yield run_job


def test_sigkill_at_every_change_of_a_file_loses_nothing(killed_at, tmp_path_factory, tmp_path):
    """Killed at the 1st, 2nd, 3rd ... creation, renaming or removal of a file, and started again each time."""
    images = tmp_path_factory.mktemp("few")
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 9, 9)).save(images / f"{number}.png")
    flags = [f"--images={images}", "--shards=2", "--workers=1", "--scales=20"]

    assert killed_at(0, *flags, f"--output={tmp_path / 'undisturbed'}") == 0
    expected = contents(tmp_path / "undisturbed")
    event, ends = 0, []
    while not ends or ends[-1] != 0:
        event += 1
        ends.append(killed_at(event, *flags, f"--output={tmp_path / 'out'}"))
        assert ends[-1] in (0, -signal.SIGKILL)
        for path in shards(tmp_path / "out"):
            assert path.read_bytes() == expected[path.name]
    assert set(ends[:-1]) == {-signal.SIGKILL} and len(ends) > 8
    assert contents(tmp_path / "out") == expected
    # From the beginning, at events that the resumed runs above did not reach.
    for event in range(len(ends), 60, 9):
        output = tmp_path / f"out{event}"
        first = killed_at(event, *flags, f"--output={output}")
        assert killed_at(0, *flags, f"--output={output}") == 0
        assert contents(output) == expected
        if first == 0:
            break

"""main.py in processes of its own: interrupted, on a full disk, with wrong flags."""

import functools
import resource
import signal

import numpy as np
import pytest
from runs import assert_same, finish, flip, largest, learned, signal_at, start, step_logged, wait_until

from rmae_jax.training.checkpoints import newest

LONG = {"steps": 60, "checkpoint_every": 10, "pictures_every": 1000}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Gives what a run that nobody disturbs learns; runs it once."""
    run = tmp_path_factory.mktemp("uninterrupted")

    @functools.cache
    def what_it_learns() -> tuple[list[dict], list[np.ndarray]]:
        return learned(run)

    def trained(command) -> tuple[list[dict], list[np.ndarray]]:
        if not (run / "losses.png").exists():
            finish(command(run, **LONG))
        return what_it_learns()

    return trained


def test_a_stopped_and_resumed_run_equals_an_undisturbed_one(command, uninterrupted, tmp_path):
    """Stopped twice, each time in another way; what resumes is stopped as well."""
    run = tmp_path / "run"
    for step, signum, status in ((14, signal.SIGINT, 130), (32, signal.SIGTERM, 0)):
        before = step_logged(run)
        returned, output = signal_at(command(run, **LONG), run, step, signum)
        assert returned == status, output
        assert step <= step_logged(run) < 60, "the run ended before the signal"
        assert "Traceback" not in output
        assert "the same command resumes from there" in output
        assert ("resumed from" in output) == bool(before), output
    assert "resumed from" in finish(command(run, **LONG))
    assert_same(learned(run), uninterrupted(command))


def test_a_run_goes_on_after_a_full_disk_and_from_the_checkpoint_before_a_damaged_one(command, uninterrupted, tmp_path):
    """No file of the running process may grow any more: what a full disk does, without one."""
    run = tmp_path / "run"
    process = start(command(run, **LONG))
    wait_until((run / "checkpoints" / "20").exists, process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    good = newest(run)
    lost = good.with_name(str(int(good.name) + 10))
    error = output.splitlines()[-1]
    assert error.startswith(f"error: checkpoint {lost} could not be written: ") and "File too large" in error
    assert f"the last good checkpoint is {good}. " in error and "run the same command" in error
    assert "Traceback" not in output

    values = largest(good)
    flip(values, values.stat().st_size // 2, 0)
    output = finish(command(run, **LONG))
    before = good.with_name(str(int(good.name) - 10))
    assert f"CORRUPT CHECKPOINT: {good} " in output and f"using {before} instead" in output
    left = {path.name for path in (run / "checkpoints").iterdir()}
    assert left == {"40", "50", "60", f"{good.name}.damaged"}
    assert_same(learned(run), uninterrupted(command))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is required"),
        (["--config=configs/nothing.py"], "configs/nothing.py"),
        (["--config=configs/rmae_b.py", "--config.model.widht=3"], 'Did you mean "width"'),
        (["--config=configs/rmae_b.py", "--config.model.width=wide"], "--config.model.width=wide"),
        (["--config=configs/rmae_b.py", "--workdri=x"], "workdri"),
        (["--config=configs/rmae_b.py", "train"], "unexpected argument 'train'"),
        (["--config=configs/rmae_b.py"], "data.path is empty"),
    ],
)
def test_wrong_flags_are_one_line(arguments, message, tmp_path):
    workdir = [f"--workdir={tmp_path / 'run'}"] if arguments else []
    process = start(["main.py", *arguments, *workdir])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = output.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "run").exists()

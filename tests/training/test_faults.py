"""A run that is killed over and over ends as if nothing had happened."""

import signal
import time
from pathlib import Path

import numpy as np
from runs import Command, assert_same, finish, learned, start, step_logged, wait_until

KILLS = 20
# Checkpoints follow each other so closely that many a moment is within the writing of one. Without regions: what lives
# for seconds must be quick to begin.
STEADY = {"model.objective": "mae", "steps": 200, "checkpoint_every": 5, "log_every": 5, "pictures_every": 1000}


def wait(process: Command, run: Path, rng: np.random.Generator, beginning: bool) -> None:
    """Until a random moment while a run goes on; or still imports, restores and compiles, in the beginning."""
    before = step_logged(run)
    if beginning:
        moment = time.monotonic() + rng.uniform(0, 4)
        wait_until(lambda: time.monotonic() > moment or step_logged(run) > before, process)
    else:
        target = before + int(rng.integers(1, 10))
        wait_until(lambda: step_logged(run) >= target, process)
        time.sleep(rng.uniform(0, 0.1))


def test_twenty_kills_at_random_moments_change_nothing(command, tmp_path):
    run, rng = tmp_path / "run", np.random.default_rng(0)
    killed_while_writing = 0
    for kill in range(KILLS):
        process = start(command(run, **STEADY))
        wait(process, run, rng, beginning=kill % 5 == 4)
        process.kill()
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        killed_while_writing += any(not path.name.isdigit() for path in (run / "checkpoints").glob("*"))
    assert step_logged(run) < STEADY["steps"], "the run ended before its last kill"
    assert killed_while_writing >= 3
    assert "resumed from" in finish(command(run, **STEADY))
    assert all(path.name.isdigit() for path in (run / "checkpoints").iterdir())
    finish(command(tmp_path / "undisturbed", **STEADY | {"checkpoint_every": STEADY["steps"]}))
    assert_same(learned(run), learned(tmp_path / "undisturbed"))

"""Runs of main.py in processes of their own, on one host or several, and what they learn."""

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from command_server import Command, start
from flax import nnx

import rmae_jax
from rmae_jax.training import metrics

Learned = tuple[list[dict], list[np.ndarray]]


def finish(arguments: list[str], **environment: str) -> str:
    process = start(arguments, **environment)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def signal_at(arguments: list[str], run: Path, step: int, signum: int) -> tuple[int, str]:
    """Sends a signal once that step is logged; the exit status and the output."""
    process = start(arguments)
    wait_until(lambda: step_logged(run) >= step, process)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def learned(run: Path) -> Learned:
    """Every logged loss and the final parameters."""
    lines = [
        {k: v for k, v in line.items() if k != "images_per_second"} for line in metrics.read(run / "metrics.jsonl")
    ]
    return lines, [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(rmae_jax.load(run)[0]))]


def step_logged(run: Path) -> int:
    """The last step in a run's metrics, 0 without any."""
    lines = metrics.read(run / "metrics.jsonl")
    return lines[-1]["step"] if lines else 0


def wait_until(true: Callable[[], bool], process: Command) -> None:
    """Waits for a thing that a process does; complains with its output if it ends before."""
    deadline = time.monotonic() + 240
    while not true():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)


def start_hosts(arguments: list[list[str]], **environment: str) -> list[Command]:
    """A process for each host, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--coordinator=127.0.0.1:{port}", f"--num_hosts={len(arguments)}"]
    return [start([*own, *flags, f"--host={host}"], **environment) for host, own in enumerate(arguments)]


def start_slurm_step(arguments: list[str], count: int) -> list[Command]:
    """The processes of a step as srun starts them, as far as JAX looks."""
    ports = range(65535 - 2**12 + 1, 65535)  # JAX takes the one that the job's number says
    port = next(port for port in random.sample(ports, 100) if _is_free(port))
    step = {"SLURM_JOB_ID": str(port - ports[0]), "SLURM_STEP_NODELIST": "localhost"}
    step |= {"SLURM_NTASKS": str(count), "SLURM_STEP_NUM_TASKS": str(count)}
    return [start(arguments, **step, SLURM_PROCID=str(task), SLURM_LOCALID=str(task)) for task in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) != 0


def outcomes(processes: list[Command], seconds: float = 240) -> list[tuple[int, str]]:
    """Exit status and output of each, when all have ended."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def assert_same(found: Learned, expected: Learned) -> None:
    assert found[0] == expected[0]
    assert all(np.array_equal(a, b) for a, b in zip(found[1], expected[1], strict=True))


def assert_close(found: Learned, expected: Learned) -> None:
    """What differs by rounding alone: sums are made in another order. Adam makes large steps of tiny gradients."""
    for line, other in zip(found[0], expected[0], strict=True):
        assert line.keys() == other.keys()
        assert all(np.isclose(line[key], other[key], rtol=1e-4) for key in line), (line, other)
    assert all(np.allclose(a, b, atol=5e-4) for a, b in zip(found[1], expected[1], strict=True))


def flip(file: Path, byte: int, bit: int) -> None:
    """Damages a file."""
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(data)


def largest(folder: Path) -> Path:
    """The file of a folder that holds most: of a checkpoint, its arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)

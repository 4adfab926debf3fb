"""The shared memory through which worker processes pass batches."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

SHARED_MEMORY = Path("/dev/shm")


class SharedMemoryError(OSError):
    """The shared memory is too small for the batches of the worker processes."""


def check_shared_memory(example: Mapping[str, Shaped[np.ndarray, "..."]], batch_size: int, workers: int) -> None:
    """Checks that the batches of all workers fit into the shared memory; without space, the system kills a worker.

    Args:
      example: one example, without the axis of the batch.
      batch_size: number of examples in a worker's batch.
      workers: number of processes.

    Raises:
      SharedMemoryError: they do not fit.
    """
    if not SHARED_MEMORY.is_dir():  # not Linux
        return
    batches = 4 * workers - 2  # that grain holds at most, as measured: finished, in a queue, or being copied
    needed = batches * batch_size * sum(array.nbytes for array in map(np.asarray, example.values()))
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise SharedMemoryError(
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB free, but {workers} workers need {needed / 2**20:.0f} MiB for "
            f"their batches: start the container with --shm-size={needed / 2**30 + 1:.0f}g (Docker's default is 64m), "
            "or set data.workers to 0, which uses threads"
        )

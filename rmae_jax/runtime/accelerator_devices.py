"""Detection of accelerators by their device files, without JAX, which would claim them."""

from pathlib import Path

_TPU = ("accel[0-9]*", "vfio/[0-9]*")
_GPU = ("nvidia[0-9]*", "kfd")


def has_tpu() -> bool:
    """Returns whether the machine has a TPU."""
    return _any_device(_TPU)


def has_accelerator() -> bool:
    """Returns whether the machine has a TPU or a GPU."""
    return _any_device(_TPU + _GPU)


def _any_device(patterns: tuple[str, ...]) -> bool:
    return any(any(Path("/dev").glob(pattern)) for pattern in patterns)

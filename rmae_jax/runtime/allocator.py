"""Memory that a step on a CPU gives back, kept by the process for the next step."""

import ctypes
import os
import sys

from rmae_jax.runtime.accelerator_devices import has_accelerator

# Of glibc's malloc.h; a process has one arena, so that the memory that any thread gave back is found by all.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Tells the C library not to give freed memory back to the system. To be called before JAX makes its threads.

    XLA allocates a step's temporaries, gigabytes, and frees them at its end. By default, the C library returns such
    blocks to the system at once, and the next step has all their pages mapped and zeroed anew.

    Where there is an accelerator, nothing is changed: steps do not run in this process's memory, and threads that read
    data do better with arenas of their own.

    Returns:
      Whether it was told: other C libraries than glibc have their own ways.
    """
    if not sys.platform.startswith("linux") or (os.environ.get("JAX_PLATFORMS") != "cpu" and has_accelerator()):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 * 2**20}
    return all([mallopt(parameter, value) == 1 for parameter, value in settings.items()])

"""Settings of the C library's allocator: on a CPU, the process retains memory that a step frees for the next step."""

import ctypes
import os
import sys

from rmae_jax.runtime.accelerator_devices import has_accelerator

# Constants of glibc's malloc.h. With a single arena, every thread can reuse the memory that another one has freed.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Configures the C library not to return freed memory to the system. Call it before JAX creates its threads.

    XLA allocates gigabytes of temporaries for a step and frees them at its end. By default, the C library returns such
    blocks to the system at once, and the next step has all their pages mapped and zeroed again.

    On a machine with an accelerator, nothing is changed: steps do not run in this process's memory, and threads that
    read data are faster with arenas of their own.

    Returns:
      Whether the settings were applied; C libraries other than glibc do not support them.
    """
    if not sys.platform.startswith("linux") or (os.environ.get("JAX_PLATFORMS") != "cpu" and has_accelerator()):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 * 2**20}
    return all([mallopt(parameter, value) == 1 for parameter, value in settings.items()])

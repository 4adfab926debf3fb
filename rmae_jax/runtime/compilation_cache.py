"""Programs stay compiled from one run to the next: JAX's persistent compilation cache."""

import os
from pathlib import Path

import jax

from rmae_jax.runtime import hosts


def enable_compilation_cache() -> None:
    """Turns JAX's cache on, in ~/.cache/rmae_jax/compiled (XDG_CACHE_HOME) where the user has named no folder.

    JAX_COMPILATION_CACHE_DIR names one, JAX_ENABLE_COMPILATION_CACHE=0 turns it off. A folder that cannot be written
    costs the time to compile, nothing else. What was compiled for other devices, or for a CPU with other instructions,
    is not used: JAX keys by them.

    Several hosts must name a folder that they share: a home may be each host's own, but host 0 alone writes, and those
    that still compile may wait for kernels to be tried by host 0, which has found its program and compiles nothing.
    """
    if hosts.several():
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # a second: leaves out a hundred small programs
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rmae_jax", "compiled")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))

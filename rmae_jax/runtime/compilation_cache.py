"""JAX's persistent compilation cache, with which a second run need not compile its programs again."""

import os
from pathlib import Path

import jax

from rmae_jax.runtime import hosts
from rmae_jax.runtime.devices import devices


def enable_compilation_cache() -> None:
    """Enables JAX's compilation cache in ~/.cache/rmae_jax/compiled, or in XDG_CACHE_HOME.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=0 disables the cache. If the folder
    cannot be written, programs are compiled each time. JAX keys programs by device and CPU instructions.

    With several CPU devices in a process (xla_force_host_platform_device_count) the cache is disabled, even if the user
    has named a folder: programs for several CPU devices give wrong results when JAX 0.10 loads them from a cache.

    With several hosts the cache is not enabled, because it needs a folder that all of them share: only host 0 writes to
    it, and hosts that compile may wait for host 0 to try out kernels, while host 0 has found its program in its own
    cache and compiles nothing.
    """
    if hosts.several() and not jax.config.jax_compilation_cache_dir:
        return  # before JAX looks for devices: hosts first compare their versions
    if devices()[0].platform == "cpu" and jax.local_device_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if hosts.several():
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:  # its default of 1 s omits 100 small programs
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rmae_jax", "compiled")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))

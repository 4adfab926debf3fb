"""Silencing of libraries, for commands only: library functions leave the settings of their host process unchanged."""

import logging
import os

import absl.logging

from rmae_jax.runtime.accelerator_devices import has_tpu

# Environment for a machine without a TPU, where libtpu would ask the cloud which machine this is and print that it got
# no answer. It must be set before JAX looks for devices.
LIBTPU_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
}


def silence_libraries() -> None:
    """Silences libraries in the process of a command. Call it before JAX looks for devices."""
    absl.logging.set_verbosity(absl.logging.FATAL)  # Orbax logs a lot, including errors that it also raises
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports that it builds its font cache
    if not has_tpu():
        for name, value in LIBTPU_WITHOUT_TPU.items():
            os.environ.setdefault(name, value)

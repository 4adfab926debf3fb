import importlib.util
import os
import subprocess
import sys

import pytest

from rmae_jax.runtime.accelerator_devices import has_accelerator


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install -e .[tpu]")
@pytest.mark.skipif(has_accelerator(), reason="this machine has an accelerator")
def test_libtpu_is_silent_on_a_machine_without_a_tpu():
    program = "import jax; print(jax.default_backend())"
    silenced = f"from rmae_jax.runtime.library_logging import silence_libraries; silence_libraries(); {program}"
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    process = subprocess.run([sys.executable, "-c", silenced], env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "cpu\n", "")

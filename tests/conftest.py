import os
import signal
import tempfile

import pytest
from tracing import collect_less_garbage, skip_discarded_messages

# With libtpu installed, JAX looks for TPUs and complains that there are none.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Tests compile hundreds of small programs and run most of them once: compilation matters, speed does not. Without
# LLVM's optimiser and XLA's fusion emitters, a program compiles in a third of the time. Processes share what they
# compile; pytest-xdist's workers inherit what their parent sets here.
FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
    _compiled = tempfile.TemporaryDirectory(prefix="rmae-jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Workers take whole files, in this order and then in that of their names: none should be left alone with a long one.
LONGEST = ("faults", "hosts", "ablations", "processes", "sharding", "init_weights")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the longest files first."""
    names = [f"test_{name}.py" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


# A job in the background of a shell ignores SIGINT, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Lets models be traced faster."""
    skip_discarded_messages()


def pytest_collection_finish() -> None:
    """Saves a tenth of the time, once the modules of all tests are imported."""
    collect_less_garbage()

import os
import signal
import tempfile

import pytest

# With libtpu installed, JAX looks for TPUs and complains that there are none.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Tests compile hundreds of small programs and run most of them once: LLVM's optimiser costs more than it gives, and
# what one process has compiled, the next need not. pytest-xdist's workers share what their parent has set.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
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

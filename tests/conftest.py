import os
import signal
import tempfile

# With libtpu installed, JAX looks for TPUs and complains that there are none.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Tests compile hundreds of small programs and run most of them once: LLVM's optimiser costs more than it gives, and
# what one process has compiled, the next need not. pytest-xdist's workers share what their parent has set.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
    _compiled = tempfile.TemporaryDirectory(prefix="rmae-jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# A job in the background of a shell ignores SIGINT, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

import os
import signal

# Tests compile hundreds of small programs and run most of them once: LLVM's optimiser costs more than it gives.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

# A job in the background of a shell ignores SIGINT, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

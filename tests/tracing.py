"""How tests trace models faster."""

import gc


def skip_discarded_messages() -> None:
    """Skips the composition of an error message that takes two thirds of the time to trace a model.

    Whenever Flax draws a key, it asks a traced array for its sharding. JAX raises an error with the history of
    the array, and Flax discards the error.
    """
    from jax._src.interpreters.partial_eval import DynamicJaxprTracer  # after JAX_PLATFORMS is set

    DynamicJaxprTracer._origin_msg = lambda self: ""


def collect_less_garbage() -> None:
    """Excludes all modules imported so far from garbage collection, and collects less often: tracing makes garbage."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)

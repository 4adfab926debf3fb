"""Region-aware masked autoencoders (R-MAE, ICLR 2024) in JAX/Flax.

The names below are imported at their first use, so that processes of the input pipeline, which do not need JAX, do not
wait for its import.
"""

import importlib

_PUBLIC = {
    "RMAE": "rmae_jax.model",
    "Mask": "rmae_jax.model",
    "Outputs": "rmae_jax.model",
    "complete": "rmae_jax.completion",
    "features": "rmae_jax.feature_extraction",
    "inspect": "rmae_jax.inspect",
    "interop": "rmae_jax.interop",
    "load": "rmae_jax.checkpoint_loading",
    "pretrain": "rmae_jax.training",
}

__all__ = ["RMAE", "Mask", "Outputs", "complete", "features", "inspect", "interop", "load", "pretrain"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rmae_jax' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    return module if module.__name__ == f"rmae_jax.{name}" else getattr(module, name)

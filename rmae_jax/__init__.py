"""Region-aware masked autoencoders (R-MAE, ICLR 2024) in JAX/Flax.

The names below are loaded at their first use: data_prep's and the data pipeline's processes need the record schema
alone and should not wait for JAX.
"""

import importlib

_PUBLIC = {
    "RMAE": "rmae_jax.model",
    "Mask": "rmae_jax.model",
    "Outputs": "rmae_jax.model",
    "load": "rmae_jax.loading",
    "pretrain": "rmae_jax.training",
}

__all__ = ["RMAE", "Mask", "Outputs", "load", "pretrain"]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rmae_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)

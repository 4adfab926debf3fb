"""Conversion of weights to and from PyTorch, in the layouts of R-MAE, MAE, timm and transformers."""

from rmae_jax.interop.convert import FORMATS, from_torch, to_torch
from rmae_jax.interop.errors import InteropError
from rmae_jax.interop.files import read, write

__all__ = ["FORMATS", "InteropError", "from_torch", "read", "to_torch", "write"]

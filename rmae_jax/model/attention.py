"""Multi-head attention modules, and the choice of their implementation (plain or TPU kernel)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.layers import Projection
from rmae_jax.model.ops.linear import linear, linear_for_kernel
from rmae_jax.model.ops.plain_attention import attend

Tokens = Float[Array, "batch tokens width"]
Queries = Float[Array, "batch queries width"]


def choose_implementation(key: str, platform: str) -> str:
    """Returns the implementation of attention for a training step.

    Args:
      key: config.attention of a recipe: "auto" (the kernel on TPUs, plain elsewhere), "plain" or "kernel".
      platform: of the devices that run the step: "tpu", "gpu" or "cpu".

    Returns:
      "plain"; "tpu_kernel"; or "tpu_kernel_interpreted", the kernel without a TPU, slowly.
    """
    if key == "plain" or (key == "auto" and platform != "tpu"):
        return "plain"
    return "tpu_kernel" if platform == "tpu" else "tpu_kernel_interpreted"


class Attention(nnx.Module):
    """Multi-head softmax self-attention over the tokens of each batch entry.

    Args:
      width: the width of the tokens.
      num_heads: the number of heads, which share the width equally.
      implementation: see `Execution.attention`.
    """

    def __init__(self, width: int, num_heads: int, *, implementation: str = "plain", dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads, self.implementation = num_heads, implementation
        self.qkv = Projection(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = Projection(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, *, first_query: int = 0) -> Queries:
        """Attends from the tokens `first_query` and after to all tokens; queries of other tokens are not computed."""
        _, keys, width = x.shape
        kernel = _uses_kernel(self.implementation, keys - first_query, keys, width, self.num_heads)
        apply = linear_for_kernel if kernel else linear
        if first_query == 0:
            parts = (self.qkv.part(x, slice(None), apply),)
        else:
            parts = (
                self.qkv.part(x[:, first_query:], slice(width), apply),
                self.qkv.part(x, slice(width, None), apply),
            )
        return self.proj(_attend(parts, self.num_heads, self.implementation, kernel))


class CrossAttention(nnx.Module):
    """Multi-head softmax attention from queries to a memory; the arguments are those of `Attention`."""

    def __init__(self, width: int, num_heads: int, *, implementation: str = "plain", dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads, self.implementation = num_heads, implementation
        self.q = Projection(width, width, dtype=dtype, rngs=rngs)
        self.kv = Projection(width, 2 * width, dtype=dtype, rngs=rngs)
        self.proj = Projection(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, queries: Queries, memory: Tokens) -> Queries:
        sizes = queries.shape[1], memory.shape[1], queries.shape[2]
        kernel = _uses_kernel(self.implementation, *sizes, self.num_heads)
        apply = linear_for_kernel if kernel else linear
        parts = self.q.part(queries, slice(None), apply), self.kv.part(memory, slice(None), apply)
        return self.proj(_attend(parts, self.num_heads, self.implementation, kernel))


def _uses_kernel(implementation: str, queries: int, keys: int, width: int, num_heads: int) -> bool:
    """Returns whether the TPU kernel is used: if it was chosen and supports these sizes."""
    if implementation == "plain":
        return False
    from rmae_jax.model.ops.tpu_attention import fits  # Pallas takes a while to import

    return fits(queries, keys, width, num_heads)


def _attend(parts: tuple[Float[Array, "batch _ _"], ...], num_heads: int, implementation: str, kernel: bool) -> Queries:
    """Computes attention of q, k and v, given as the outputs of the linear layers, (qkv,) or (q, kv)."""
    if kernel:
        from rmae_jax.model.ops.tpu_attention import tpu_attention

        return tpu_attention(parts, num_heads, interpret=implementation == "tpu_kernel_interpreted")
    *queries, rest = parts
    return attend(*queries, *jnp.split(rest, 3 - len(queries), axis=-1), num_heads)

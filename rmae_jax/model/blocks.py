"""Transformer blocks: pre-LN, fused qkv, exact GELU, as in ViT and MAE."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Shaped

LayerNorm = partial(nnx.LayerNorm, epsilon=1e-6)
Linear = partial(nnx.Linear, kernel_init=nnx.initializers.xavier_uniform())
gelu = partial(jax.nn.gelu, approximate=False)  # JAX's default is the tanh approximation; the paper's is erf

Tokens = Float[Array, "batch tokens width"]


class Attention(nnx.Module):
    """Multi-head softmax self-attention over the tokens of each batch entry."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Tokens:
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        return self.proj(attend(q, k, v, self.num_heads))


class CrossAttention(nnx.Module):
    """Multi-head softmax attention from queries to a memory."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.q = Linear(width, width, dtype=dtype, rngs=rngs)
        self.kv = Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, queries: Float[Array, "batch queries width"], memory: Tokens
    ) -> Float[Array, "batch queries width"]:
        k, v = jnp.split(self.kv(memory), 2, axis=-1)
        return self.proj(attend(self.q(queries), k, v, self.num_heads))


class MLP(nnx.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.fc2(gelu(self.fc1(x)))


class Block(nnx.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) with four times the width inside."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens) -> Tokens:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def attend(
    q: Float[Array, "batch queries width"],
    k: Float[Array, "batch keys width"],
    v: Float[Array, "batch keys width"],
    num_heads: int,
) -> Float[Array, "batch queries width"]:
    """softmax(q k^T / sqrt(head width)) v in each head; the softmax is in float32."""

    def heads(x):  # (B, N, D) -> (B, H, N, D / H)
        return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)

    q, k, v = heads(q), heads(k), heads(v)
    scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, v)
    return out.swapaxes(1, 2).reshape(out.shape[0], out.shape[2], -1)


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` equal modules as one whose parameters have a leading axis: compiled once, run by `run_stack`."""
    return jax.vmap(lambda key: make(nnx.Rngs(key)))(jax.random.split(rngs.params(), depth))


def run_stack(
    blocks: nnx.Module, x: Shaped[Array, "batch tokens width"], *args: Shaped[Array, "..."]
) -> Shaped[Array, "batch tokens width"]:
    """Applies the modules of a stack one after the other; `args` go to each of them."""
    return jax.lax.scan(lambda x, block: (block(x, *args), None), x, blocks)[0]

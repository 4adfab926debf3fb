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

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch queries width"]:
        """Attends to all tokens from token `first` and those behind it; the queries of the others are not computed."""
        if first == 0:
            q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        else:
            width = x.shape[-1]
            q = project(self.qkv, x[:, first:], slice(width))
            k, v = jnp.split(project(self.qkv, x, slice(width, None)), 2, axis=-1)
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

    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """The mean over the tokens of a call's output; the second layer is linear, so it acts on the mean alone."""
        return self.fc2(gelu(self.fc1(x)).mean(axis=1))


class Block(nnx.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) with four times the width inside."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch out_tokens width"]:
        """The output's tokens from `first` on; they see all tokens of the input."""
        x = x[:, first:] + self.attention(self.norm1(x), first)
        return x + self.mlp(self.norm2(x))

    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """The mean over the tokens of a call's output, at less cost."""
        x = x + self.attention(self.norm1(x))
        return x.mean(axis=1) + self.mlp.mean(self.norm2(x))


class Blocks(nnx.Module):
    """Blocks in a row, of which what follows needs a part: the last stands alone and computes that part."""

    def __init__(self, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.body = stack(partial(Block, width, num_heads, dtype=dtype), depth - 1, rngs) if depth > 1 else None
        self.last = Block(width, num_heads, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch out_tokens width"]:
        """The output's tokens from `first` on."""
        return self.last(self._before_last(x), first)

    def with_mean(self, x: Tokens) -> tuple[Tokens, Float[Array, "batch width"]]:
        """The output and its mean over the tokens; compiled, only what is used of the two is computed."""
        x = self._before_last(x)
        return self.last(x), self.last.mean(x)

    def _before_last(self, x: Tokens) -> Tokens:
        return x if self.body is None else run_stack(self.body, x)


def project(
    linear: nnx.Linear, x: Float[Array, "*batch width"], columns: slice
) -> Float[Array, "*batch chosen_features"]:
    """Chosen columns of a linear layer's output."""
    kernel, bias = linear.kernel[:, columns].astype(linear.dtype), linear.bias[columns].astype(linear.dtype)
    return x.astype(linear.dtype) @ kernel + bias


def attend(
    q: Float[Array, "batch queries width"],
    k: Float[Array, "batch keys width"],
    v: Float[Array, "batch keys width"],
    num_heads: int,
) -> Float[Array, "batch queries width"]:
    """softmax(q k^T / sqrt(head width)) v in each head; the softmax is in float32."""
    weights, v = attention_weights(q, k, num_heads), split_heads(v, num_heads)
    out = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(v.dtype), v)
    return out.swapaxes(1, 2).reshape(out.shape[0], out.shape[2], -1)


def attention_weights(
    q: Float[Array, "batch queries width"], k: Float[Array, "batch keys width"], num_heads: int
) -> Float[Array, "batch {num_heads} queries keys"]:
    """softmax(q k^T / sqrt(head width)) of each head, in float32: how much of each key a query takes."""
    q, k = split_heads(q, num_heads), split_heads(k, num_heads)
    scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores, axis=-1)


def split_heads(x: Float[Array, "batch tokens width"], num_heads: int) -> Float[Array, "batch {num_heads} tokens each"]:
    """Gives each head its part of the width."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


def stack(make: Callable[..., nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` equal modules as one whose parameters have a leading axis: compiled once, run by `run_stack`."""
    return jax.vmap(lambda key: make(rngs=nnx.Rngs(key)))(jax.random.split(rngs.params(), depth))


def run_stack(
    blocks: nnx.Module, x: Shaped[Array, "batch tokens width"], *args: Shaped[Array, "..."]
) -> Shaped[Array, "batch tokens width"]:
    """Applies the modules of a stack one after the other; `args` go to each of them."""
    return jax.lax.scan(lambda x, block: (block(x, *args), None), x, blocks)[0]

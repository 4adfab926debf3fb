"""Multi-head softmax attention, with derivatives written by hand."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rmae_jax.model.layers import ATTENTION, Projection

Tokens = Float[Array, "batch tokens width"]


class Attention(nnx.Module):
    """Multi-head softmax self-attention over the tokens of each batch entry."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.qkv = Projection(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = Projection(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch queries width"]:
        """Attends to all tokens from token `first` and those behind it; the queries of the others are not computed."""
        if first == 0:
            q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        else:
            width = x.shape[-1]
            q = self.qkv.part(x[:, first:], slice(width))
            k, v = jnp.split(self.qkv.part(x, slice(width, None)), 2, axis=-1)
        return self.proj(attend(q, k, v, self.num_heads))


class CrossAttention(nnx.Module):
    """Multi-head softmax attention from queries to a memory."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.q = Projection(width, width, dtype=dtype, rngs=rngs)
        self.kv = Projection(width, 2 * width, dtype=dtype, rngs=rngs)
        self.proj = Projection(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, queries: Float[Array, "batch queries width"], memory: Tokens
    ) -> Float[Array, "batch queries width"]:
        k, v = jnp.split(self.kv(memory), 2, axis=-1)
        return self.proj(attend(self.q(queries), k, v, self.num_heads))


def attend(
    q: Float[Array, "batch queries width"],
    k: Float[Array, "batch keys width"],
    v: Float[Array, "batch keys width"],
    num_heads: int,
) -> Float[Array, "batch queries width"]:
    """softmax(q k^T / sqrt(head width)) v in each head; the softmax is in float32."""
    out = attend_heads(*(split_heads(x, num_heads) for x in (q, k, v)))
    return checkpoint_name(out.swapaxes(1, 2).reshape(q.shape), ATTENTION)


def attention_weights(
    q: Float[Array, "batch queries width"], k: Float[Array, "batch keys width"], num_heads: int
) -> Float[Array, "batch {num_heads} queries keys"]:
    """softmax(q k^T / sqrt(head width)) of each head, in float32: how much of each key a query takes."""
    return _weights(split_heads(q, num_heads), split_heads(k, num_heads))


def split_heads(x: Float[Array, "batch tokens width"], num_heads: int) -> Float[Array, "batch {num_heads} tokens each"]:
    """Gives each head its part of the width."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


@jax.custom_vjp
def attend_heads(
    q: Float[Array, "batch heads queries each"],
    k: Float[Array, "batch heads keys each"],
    v: Float[Array, "batch heads keys each"],
) -> Float[Array, "batch heads queries each"]:
    """Attention of separate heads; of their scores, the backward pass keeps the softmax alone."""
    return jnp.einsum("bhqk,bhkd->bhqd", _weights(q, k).astype(v.dtype), v)


def _weights(q: Array, k: Array) -> Array:
    scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores, axis=-1)


def _attend_forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple]:
    weights = checkpoint_name(_weights(q, k), ATTENTION)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(v.dtype), v), (q, k, v, weights)


def _attend_backward(kept: tuple, dout: Array) -> tuple[Array, Array, Array]:
    q, k, v, weights = kept
    scale = q.shape[-1] ** -0.5
    dv = _over_queries(weights.astype(v.dtype), dout)
    dweights = jnp.einsum("bhqd,bhkd->bhqk", dout, v, preferred_element_type=jnp.float32)
    along = (dweights * weights).sum(axis=-1, keepdims=True)
    dscores = (weights * (dweights - along)).astype(q.dtype)
    return jnp.einsum("bhqk,bhkd->bhqd", dscores, k) * scale, _over_queries(dscores, q * scale), dv


def _over_queries(scores: Array, x: Array) -> Array:
    """scores^T x; as (x^T scores)^T, since XLA for CPUs has no fast product of a transposed left side."""
    return jnp.einsum("bhdq,bhqk->bhdk", x.swapaxes(-1, -2), scores).swapaxes(-1, -2)


attend_heads.defvjp(_attend_forward, _attend_backward)

"""Multi-head softmax attention with a hand-written derivative."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rmae_jax.model.ops.activation_names import ATTENTION


def attend(
    q: Float[Array, "batch queries width"],
    k: Float[Array, "batch keys width"],
    v: Float[Array, "batch keys width"],
    num_heads: int,
) -> Float[Array, "batch queries width"]:
    """Computes softmax(q k^T / sqrt(head width)) v in each head; the softmax is in float32."""
    out = attend_heads(*(split_heads(x, num_heads) for x in (q, k, v)))
    return checkpoint_name(out.swapaxes(1, 2).reshape(q.shape), ATTENTION)


def attention_weights(
    q: Float[Array, "batch queries width"], k: Float[Array, "batch keys width"], num_heads: int
) -> Float[Array, "batch {num_heads} queries keys"]:
    """Computes the attention weights of each head, softmax(q k^T / sqrt(head width)), in float32."""
    return _weights(split_heads(q, num_heads), split_heads(k, num_heads))


def split_heads(x: Float[Array, "batch tokens width"], num_heads: int) -> Float[Array, "batch {num_heads} tokens each"]:
    """Splits the width into heads."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


@jax.custom_vjp
def attend_heads(
    q: Float[Array, "batch heads queries each"],
    k: Float[Array, "batch heads keys each"],
    v: Float[Array, "batch heads keys each"],
) -> Float[Array, "batch heads queries each"]:
    """Computes attention of split heads; the backward pass needs q, k, v and the softmax, but not the scores."""
    return jnp.einsum("bhqk,bhkd->bhqd", _weights(q, k).astype(v.dtype), v)


def _weights(q: Array, k: Array) -> Array:
    scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores, axis=-1)


def _attend_forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple]:
    weights = checkpoint_name(_weights(q, k), ATTENTION)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(v.dtype), v), (q, k, v, weights)


def _attend_backward(residuals: tuple, dout: Array) -> tuple[Array, Array, Array]:
    q, k, v, weights = residuals
    scale = q.shape[-1] ** -0.5
    dv = _transposed_product(weights.astype(v.dtype), dout)
    dweights = jnp.einsum("bhqd,bhkd->bhqk", dout, v, preferred_element_type=jnp.float32)
    along = (dweights * weights).sum(axis=-1, keepdims=True)
    dscores = (weights * (dweights - along)).astype(q.dtype)
    return jnp.einsum("bhqk,bhkd->bhqd", dscores, k) * scale, _transposed_product(dscores, q * scale), dv


def _transposed_product(scores: Array, x: Array) -> Array:
    """Computes scores^T x as (x^T scores)^T, since XLA on CPUs has no fast product with a transposed left side."""
    return jnp.einsum("bhdq,bhqk->bhdk", x.swapaxes(-1, -2), scores).swapaxes(-1, -2)


attend_heads.defvjp(_attend_forward, _attend_backward)

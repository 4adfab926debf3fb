"""Savings of the blocks against the plain formulation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import shaken, with_random_weights

from rmae_jax.model.blocks import Blocks
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.region_query_decoder import linear_of_normed_sum


def randomised(make: Callable[[], nnx.Module]) -> nnx.Module:
    """A module whose biases and scales are far from their initial values."""
    return shaken(with_random_weights(make), scale=0.3)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_last_block_computes_a_part_of_what_it_would_compute(depth):
    blocks = randomised(lambda: Blocks(16, depth, 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(1), (2, 9, 16))
    whole = blocks(x)
    assert np.allclose(blocks(x, first_query=4), whole[:, 4:], atol=1e-5)
    tokens, mean = blocks.with_mean(x)
    assert np.array_equal(tokens, whole)
    assert np.allclose(mean, np.asarray(whole).mean(axis=1), atol=1e-5)


def expansion(dtype: str, opposite: bool) -> tuple:
    """A norm and a linear layer, queries and values; each value the opposite of a query, nearly, if asked for."""
    dtype = jnp.dtype(dtype)
    norm = randomised(lambda: LayerNorm(32, dtype=dtype, rngs=nnx.Rngs(0)))
    linear = randomised(lambda: Linear(32, 24, dtype=dtype, rngs=nnx.Rngs(0)))
    q, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 32), (2, 7, 32)]))
    if opposite:
        v = v.at[:, :3].set(-q * (1 + 1e-4) + 0.5)
    return linear, norm, (3 * q + 1).astype(dtype), (3 * v - 2).astype(dtype)


def plain(linear, norm, q, v):
    return linear(norm(q[:, None] + v[:, :, None]))


def test_the_factored_expansion_equals_the_plain_one():
    inputs = expansion("float32", opposite=False)
    assert np.allclose(linear_of_normed_sum(*inputs), plain(*inputs), atol=1e-5)
    weight = jax.random.normal(jax.random.key(2), (2, 7, 3, 24))
    grads = [
        jax.grad(lambda modules, form=form: (form(*modules) * weight).sum())(inputs)
        for form in (linear_of_normed_sum, plain)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, grads), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_factored_expansion_of_opposite_vectors_is_finite():
    inputs = expansion("float32", opposite=True)
    grads = jax.grad(lambda modules: linear_of_normed_sum(*modules).sum())(inputs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.isfinite(linear_of_normed_sum(*inputs)).all()


def test_the_factored_expansion_in_bfloat16_is_as_exact_as_the_plain_one():
    rough, exact = expansion("bfloat16", opposite=False), expansion("float32", opposite=False)
    inputs = [x.astype(jnp.float32) for x in rough[2:]]
    truth = np.asarray(plain(*exact[:2], *inputs), np.float64)
    errors = [np.abs(np.asarray(form(*rough), np.float64) - truth).mean() for form in (linear_of_normed_sum, plain)]
    assert errors[0] < 1.1 * errors[1]

"""Layers whose derivatives are written by hand, against the plain formulas and what JAX differentiates of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
from flax import nnx

from rmae_jax.model.layers import LayerNorm
from rmae_jax.model.losses import cross_entropy
from rmae_jax.model.ops.gelu import LOG_ODDS, gelu
from rmae_jax.model.ops.layer_norm import layer_norm
from rmae_jax.model.ops.linear import add_bias, linear
from rmae_jax.model.ops.plain_attention import attend_heads


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def plain_layer_norm(x, scale, bias):
    norm = nnx.LayerNorm(x.shape[-1], epsilon=1e-6, use_fast_variance=False, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = scale, bias
    return norm(x)


def plain_attention(q, k, v):
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, axis=-1), v)


FORMS = {
    "linear": (linear, lambda x, w, b: x @ w + b, (normal(4, 15, 24), normal(24, 40, seed=1), normal(40, seed=2))),
    "wide linear": (
        linear,
        lambda x, w, b: x @ w + b,
        (normal(4, 15, 24), normal(24, 300, seed=1), normal(300, seed=2)),
    ),
    "bias": (add_bias, lambda x, b: x + b, (normal(4, 15, 24), normal(24, seed=1))),
    "layer norm": (
        layer_norm,
        plain_layer_norm,
        (3 * normal(4, 15, 24) + 2, 1 + normal(24, seed=1), normal(24, seed=2)),
    ),
    "gelu": (gelu, lambda x: jax.nn.gelu(x, approximate=False), (3 * normal(4, 15, 24),)),
    "attention": (
        attend_heads,
        plain_attention,
        (2 * normal(2, 3, 7, 8), normal(2, 3, 11, 8, seed=1), normal(2, 3, 11, 8, seed=2)),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_values_and_derivatives_are_those_of_the_plain_formula(name):
    ours, plain, inputs = FORMS[name]
    with jax.default_matmul_precision("highest"):
        expected, pullback = jax.vjp(plain, *inputs)
        found, our_pullback = jax.vjp(ours, *inputs)
        cotangent = normal(*expected.shape, seed=3)
        pairs = [(found, expected), *zip(our_pullback(cotangent), pullback(cotangent), strict=True)]
    for x, y in pairs:
        assert x.shape == y.shape
        assert np.abs(x - y).max() <= 1e-6 * np.abs(y).max()


def test_the_polynomial_of_gelu():
    x = np.linspace(-40, 40, 400_001)
    found = x * scipy.special.expit(x * np.polyval(LOG_ODDS, x**2))
    assert np.abs(found - x * scipy.stats.norm.cdf(x)).max() < 8e-8


def test_gelu_is_as_exact_as_float32_allows():
    x = jnp.linspace(-12, 12, 200_001)
    exact = np.asarray(x, np.float64)
    phi, density = scipy.stats.norm.cdf(exact), scipy.stats.norm.pdf(exact)
    assert np.all(np.abs(gelu(x) - exact * phi) <= 3e-7 * np.maximum(1, np.abs(exact)))
    derivative = jax.grad(lambda x: gelu(x).sum())(x)
    assert np.all(np.abs(derivative - (phi + exact * density)) <= 3e-7 * np.maximum(1, np.abs(exact)))


def test_the_tails_of_gelu():
    x = jnp.array([-1e30, -40.0, -9.0, 0.0, 9.0, 40.0, 1e30])
    assert np.allclose(gelu(x), jnp.maximum(x, 0), atol=1e-6)
    assert np.allclose(jax.grad(lambda x: gelu(x).sum())(x), [0, 0, 0, 0.5, 1, 1, 1], atol=1e-6)


def test_the_norm_of_a_constant_is_its_bias():
    norm = LayerNorm(24, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    norm.bias[...] = normal(24)
    x = jnp.full((3, 24), 1000.1)
    assert np.allclose(norm(x), jnp.broadcast_to(norm.bias[...], x.shape), atol=0.1)
    assert np.isfinite(jax.grad(lambda x: norm(x).sum())(x)).all()


@pytest.mark.parametrize("layer", FORMS)
def test_bfloat16_comes_back_as_bfloat16(layer):
    ours, plain, inputs = FORMS[layer]
    rounded = [x.astype(jnp.bfloat16) for x in inputs]
    if layer == "layer norm":
        rounded[1:] = inputs[1:]  # parameters are float32
    found, pullback = jax.vjp(ours, *rounded)
    grads = pullback(jnp.ones_like(found))
    assert [x.dtype for x in grads] == [x.dtype for x in rounded]
    exact = plain(*inputs)
    assert np.abs(found.astype(jnp.float32) - exact).max() <= 0.03 * np.abs(exact).max()


@pytest.mark.parametrize(("layer", "kept"), [("gelu", 1), ("layer norm", 1), ("bias", 0), ("attention", 4)])
def test_little_is_kept_for_the_backward_pass(layer, kept):
    ours, _, inputs = FORMS[layer]
    _, pullback = jax.vjp(ours, *inputs)
    assert len([leaf for leaf in jax.tree.leaves(pullback) if leaf.ndim > 1]) == kept


@pytest.mark.parametrize("background_weight", [1.0, 0.25])
def test_cross_entropy_is_that_of_the_sigmoid(background_weight):
    logits, targets = 20 * normal(5, 30), (normal(5, 30, seed=1) > 0).astype(jnp.float32)

    def plain(logits):
        weights = jnp.where(targets == 1, 1, background_weight)
        return (optax.sigmoid_binary_cross_entropy(logits, targets) * weights).mean()

    found, ours = jax.value_and_grad(lambda x: 3 * cross_entropy(x, targets, background_weight))(logits)
    expected, theirs = jax.value_and_grad(lambda x: 3 * plain(x))(logits)
    assert np.allclose(found, expected, rtol=1e-6)
    assert np.allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_cross_entropy_of_bfloat16_differs_by_rounding():
    logits, targets = 5 * normal(5, 30), (normal(5, 30, seed=1) > 0).astype(jnp.float32)
    exact, rough = (jax.value_and_grad(cross_entropy)(logits.astype(t), targets, 0.5) for t in ("float32", "bfloat16"))
    assert rough[1].dtype == jnp.bfloat16
    assert np.allclose(rough[0], exact[0], rtol=1e-2)
    assert np.abs(rough[1].astype(jnp.float32) - exact[1]).max() <= 0.03 * np.abs(exact[1]).max()

"""Layers that keep little, against Flax's and JAX's: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rmae_jax.model import layers


def close(found: jax.Array, wanted: jax.Array, tolerance: float) -> None:
    """Within a part of the largest value."""
    wanted = np.asarray(wanted, np.float64)
    np.testing.assert_allclose(np.asarray(found, np.float64), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return 3 * jax.random.normal(jax.random.key(seed), shape) + 0.5


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_gelu(dtype, tolerance):
    x, given = draw(64, 48).astype(dtype), draw(64, 48, seed=1).astype(dtype)
    wanted, slope = jax.vjp(lambda x: jax.nn.gelu(x, approximate=False), x)
    found, found_slope = jax.vjp(layers.gelu, x)
    assert found.dtype == wanted.dtype == dtype
    close(found, wanted, tolerance)
    close(found_slope(given)[0], slope(given)[0], tolerance)


def norms(dtype: str) -> tuple[nnx.LayerNorm, layers.LayerNorm]:
    """Two of the same scale and bias."""
    made = [of(48, epsilon=1e-6, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0)) for of in (nnx.LayerNorm, layers.LayerNorm)]
    for norm in made:
        norm.scale[...], norm.bias[...] = draw(48, seed=2), draw(48, seed=3)
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_layer_norm(dtype, tolerance):
    x, given = draw(4, 16, 48).astype(dtype), draw(4, 16, 48, seed=1).astype(dtype)
    (wanted, slopes), (found, found_slopes) = (jax.vjp(lambda norm, x: norm(x), norm, x) for norm in norms(dtype))
    assert found.dtype == wanted.dtype == dtype
    close(found, wanted, tolerance)
    for a, b in zip(jax.tree.leaves(found_slopes(given)), jax.tree.leaves(slopes(given)), strict=True):
        assert a.dtype == b.dtype
        close(a, b, tolerance)


def test_a_bias_added():
    x, bias, given = draw(4, 16, 48), draw(48, seed=2), draw(4, 16, 48, seed=1)
    found, slopes = jax.vjp(layers.add_bias, x, bias)
    np.testing.assert_array_equal(found, x + bias)
    to_x, to_bias = slopes(given)
    np.testing.assert_array_equal(to_x, given)
    close(to_bias, given.sum(axis=(0, 1)), 1e-6)


@pytest.mark.parametrize("layer", ["gelu", "norm", "bias"])
def test_nothing_is_kept_but_the_input(layer):
    x = draw(4, 16, 48).astype("bfloat16")
    norm = norms("bfloat16")[1]
    call = {"gelu": layers.gelu, "norm": norm, "bias": lambda x: layers.add_bias(x, jnp.ones(48, x.dtype))}[layer]
    _, slopes = jax.vjp(call, x)
    kept = [leaf for leaf in jax.tree.leaves(slopes) if leaf.ndim > 1]
    assert [leaf.dtype for leaf in kept] == [x.dtype] * (layer != "bias")

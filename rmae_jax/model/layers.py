"""LayerNorm, GELU and linear layers whose backward pass needs no more than their input: values as of Flax and JAX.

Differentiated by themselves, they keep what they compute on the way, in float32 or several times over. On accelerators
that is written to memory and read again, which takes longer than to compute it again.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Any = Float[Array, "*batch width"]


@jax.custom_vjp
def gelu(x: Any) -> Any:
    """x times the normal distribution's function of x, computed in float32."""
    return (_float32(x) * _normal(_float32(x))).astype(x.dtype)


def _gelu_backward(x: Any, given: Any) -> tuple[Any]:
    y = _float32(x)
    slope = _normal(y) + y * jnp.exp(-0.5 * y**2) / math.sqrt(2 * math.pi)
    return ((_float32(given) * slope).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class LayerNorm(nnx.LayerNorm):
    """Flax's LayerNorm; statistics and their gradients are in float32."""

    def __call__(self, x: Any) -> Any:
        return _norm(x.astype(self.dtype or x.dtype), self.scale[...], self.bias[...], self.epsilon)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _norm(x: Any, scale: Float[Array, "width"], bias: Float[Array, "width"], epsilon: float) -> Any:
    standard, _ = _standardised(x, epsilon)
    return (standard * scale + bias).astype(x.dtype)


def _norm_backward(epsilon: float, kept: tuple[Any, Float[Array, "width"]], given: Any) -> tuple[Array, Array, Array]:
    x, scale = kept
    standard, inverse_std = _standardised(x, epsilon)
    given = _float32(given)
    axes = tuple(range(x.ndim - 1))
    to_standard = given * scale
    to_x = to_standard - to_standard.mean(axis=-1, keepdims=True)
    to_x -= standard * (to_standard * standard).mean(axis=-1, keepdims=True)
    return (to_x * inverse_std).astype(x.dtype), (given * standard).sum(axis=axes), given.sum(axis=axes)


_norm.defvjp(lambda x, scale, bias, epsilon: (_norm(x, scale, bias, epsilon), (x, scale)), _norm_backward)


def _standardised(x: Any, epsilon: float) -> tuple[Any, Float[Array, "*batch 1"]]:
    """(x - mean) / std, and 1 / std."""
    x = _float32(x)
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((x**2).mean(axis=-1, keepdims=True) - mean**2, 0)
    inverse_std = jax.lax.rsqrt(variance + epsilon)
    return (x - mean) * inverse_std, inverse_std


@jax.custom_vjp
def add_bias(x: Any, bias: Float[Array, "width"]) -> Any:
    """x + bias; the bias's gradient is a product with ones, in float32: matrix units sum faster than vector units."""
    return x + bias


def _add_bias_backward(_: None, given: Any) -> tuple[Any, Float[Array, "width"]]:
    rows = given.reshape(-1, given.shape[-1])
    # Behind the barrier, the compiler does not see ones, and does not make a sum of the product again.
    ones = jax.lax.optimization_barrier(jnp.ones((8, len(rows)), rows.dtype))
    summed = jnp.matmul(ones, rows, preferred_element_type=jnp.float32)
    return given, summed[0].astype(given.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


def _normal(x: Any) -> Any:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _float32(x: Any) -> Any:
    return x.astype(jnp.float32)

"""The layers that blocks are made of, with derivatives written by hand: linear, LayerNorm, exact GELU.

The formulas are those that automatic differentiation would find. By hand they take fewer passes over the activations,
and of these keep one each: the layer's input. What a training step may keep of a block is named here and in
`rmae_jax.model.attention`: `ATTENTION`, what attention makes of queries, keys and values, `PROJECTION`, what the linear
layers before and behind it make, and `LINEAR`, what others make (or read, where that is a mean). Everything else is
cheap to compute again.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

LINEAR, PROJECTION, ATTENTION = "linear", "projection", "attention"  # see jax.checkpoint_policies
EPSILON = 1e-6  # of LayerNorm
NARROW = 256  # features
# p of log(Phi(x) / Phi(-x)) = x p(x^2), highest power first. Of all p of degree 6, the one by which x Phi(x) is off
# least where it is off most: by 7e-8, on all of the line (Lawson's algorithm, for x in (0, 6)).
LOG_ODDS = (3.6187258e-9, -2.672937e-7, 7.946226e-6, -1.1055588e-4, -6.590952e-5, 7.266782e-2, 1.5957689)


class Linear(nnx.Linear):
    """x W + b, xavier-uniform W and b of 0."""

    kept_as = LINEAR  # the name of what it makes

    def __init__(self, in_width: int, out_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(in_width, out_width, dtype=dtype, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch features"]:
        return self.part(x, slice(None))

    def part(self, x: Float[Array, "*batch width"], columns: slice) -> Float[Array, "*batch chosen_features"]:
        """Chosen columns of a call's output."""
        kernel, bias = (x[..., columns].astype(self.dtype) for x in (self.kernel, self.bias))
        return checkpoint_name(linear(x.astype(self.dtype), kernel, bias), self.kept_as)


class Projection(Linear):
    """A linear layer that makes queries, keys and values, or takes what attention makes of them."""

    kept_as = PROJECTION


class LayerNorm(nnx.LayerNorm):
    """(x - mean) / sqrt(variance + 1e-6) * scale + bias over the channels; statistics are in float32."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(width, epsilon=EPSILON, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return layer_norm(x, self.scale[...], self.bias[...]).astype(self.dtype)


@jax.custom_vjp
def linear(
    x: Float[Array, "*batch width"], kernel: Float[Array, "width features"], bias: Float[Array, " features"]
) -> Float[Array, "*batch features"]:
    """x W + b; the derivative of W is one product that leaves it as W lies in memory, not transposed."""
    return x @ kernel + bias


def _linear_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return linear(x, kernel, bias), (x, kernel)


def _linear_backward(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    x, kernel = kept
    # A wide output's derivatives are added up by what makes them, in one operation.
    dbias = sum_by_product(dy) if dy.shape[-1] <= NARROW else dy.sum(axis=tuple(range(dy.ndim - 1)))
    return dy @ kernel.T, x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1]), dbias


linear.defvjp(_linear_forward, _linear_backward)


@jax.custom_vjp
def add_bias(x: Float[Array, "*batch width"], bias: Float[Array, " width"]) -> Float[Array, "*batch width"]:
    """x + b; the derivative of b is a product with ones, since no sum is fused into a TPU kernel that makes dy."""
    return x + bias


def _add_bias_backward(_: None, dy: Array) -> tuple[Array, Array]:
    return dy, sum_by_product(dy)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


@jax.jit  # under its name, so that those who count a step's products can leave it out
def sum_by_product(x: Float[Array, "*batch width"]) -> Float[Array, " width"]:
    """The sum over all but the last axis as a product with ones, which on a TPU is several times as fast."""
    rows = x.reshape(-1, x.shape[-1])
    # Behind the barrier, the compiler does not see ones, and does not make a sum of the product again.
    ones = jax.lax.optimization_barrier(jnp.ones((8, len(rows)), rows.dtype))
    options = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
    return jnp.matmul(ones, rows, **options)[0].astype(x.dtype)


@jax.custom_vjp
def layer_norm(
    x: Float[Array, "*batch width"], scale: Float[Array, " width"], bias: Float[Array, " width"]
) -> Float[Array, "*batch width"]:
    """LayerNorm in float32, its statistics in one pass over x."""
    return _normed(x)[0] * scale + bias


def _normed(x: Array) -> tuple[Array, Array]:
    """x with mean 0 and variance 1 over the last axis, and 1 / the standard deviation."""
    x = x.astype(jnp.float32)
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.maximum((x**2).mean(axis=-1, keepdims=True) - mean**2, 0)  # rounding may take it below zero
    inverse_std = jax.lax.rsqrt(variance + EPSILON)
    return (x - mean) * inverse_std, inverse_std


def _layer_norm_forward(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return layer_norm(x, scale, bias), (x, scale)


def _layer_norm_backward(kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    x, scale = kept
    normed, inverse_std = _normed(x)
    d = dy * scale
    mean, along = d.mean(axis=-1, keepdims=True), (d * normed).mean(axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    dx = inverse_std * (d - mean - normed * along)
    return dx.astype(x.dtype), (dy * normed).sum(axis=rows), dy.sum(axis=rows)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@jax.custom_vjp
def gelu(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """x Phi(x), exact (Hendrycks and Gimpel, 2016), in float32; JAX's default is an approximation by tanh."""
    y = x.astype(jnp.float32)
    return (y * _normal_cdf(y)).astype(x.dtype)


def _normal_cdf(x: Array) -> Array:
    """Phi(x) in float32: the sigmoid of x p(x^2), with fewer operations than erf, a quotient of two polynomials."""
    square, log_odds = x**2, LOG_ODDS[0]
    for coefficient in LOG_ODDS[1:]:
        log_odds = log_odds * square + coefficient
    return jax.nn.sigmoid(x * log_odds)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return gelu(x), x


def _gelu_backward(x: Array, dy: Array) -> tuple[Array]:
    y = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * y**2) * (2 * jnp.pi) ** -0.5
    return ((dy.astype(jnp.float32) * (_normal_cdf(y) + y * density)).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)

"""The linear layer x W + b, and sums over rows, with hand-written derivatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NARROW = 256  # features


@jax.custom_vjp
def linear(
    x: Float[Array, "*batch width"], kernel: Float[Array, "width features"], bias: Float[Array, " features"]
) -> Float[Array, "*batch features"]:
    """Computes x W + b; the derivative of W is one product whose result has W's memory layout, not its transpose."""
    return x @ kernel + bias


def _linear_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return linear(x, kernel, bias), (x, kernel)


def _linear_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    x, kernel = residuals
    # The sum over a wide output's derivatives is fused into the operation that computes them.
    dbias = sum_by_product(dy) if dy.shape[-1] <= NARROW else dy.sum(axis=tuple(range(dy.ndim - 1)))
    return dy @ kernel.T, x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1]), dbias


linear.defvjp(_linear_forward, _linear_backward)


@jax.custom_vjp
def add_bias(x: Float[Array, "*batch width"], bias: Float[Array, " width"]) -> Float[Array, "*batch width"]:
    """Computes x + b; the derivative of b is a product with ones, since a sum cannot be fused into a TPU kernel."""
    return x + bias


def _add_bias_backward(_: None, dy: Array) -> tuple[Array, Array]:
    return dy, sum_by_product(dy)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_backward)


def linear_for_kernel(
    x: Float[Array, "*batch width"], kernel: Float[Array, "width features"], bias: Float[Array, " features"]
) -> Float[Array, "*batch features"]:
    """Computes x W + b for a TPU kernel, which reads it and returns its derivative; see `add_bias`."""
    return add_bias(x @ kernel, bias)


@jax.jit  # its name in the program lets FLOP counts omit it
def sum_by_product(x: Float[Array, "*batch width"]) -> Float[Array, " width"]:
    """Sums over all but the last axis as a product with ones, which on a TPU is several times as fast as a sum."""
    rows = x.reshape(-1, x.shape[-1])
    # The barrier hides the ones from the compiler, which would otherwise turn the product into a sum.
    ones = jax.lax.optimization_barrier(jnp.ones((8, len(rows)), rows.dtype))
    options = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
    return jnp.matmul(ones, rows, **options)[0].astype(x.dtype)

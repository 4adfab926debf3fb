"""The layers of which blocks consist: linear layers and LayerNorm."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rmae_jax.model.ops.activation_names import LINEAR, PROJECTION
from rmae_jax.model.ops.layer_norm import EPSILON, layer_norm
from rmae_jax.model.ops.linear import linear


class Linear(nnx.Linear):
    """A linear layer x W + b; W is initialised xavier-uniform, b with zeros."""

    saved_as = LINEAR  # the output's name, by which it can be saved for the backward pass

    def __init__(self, in_width: int, out_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(in_width, out_width, dtype=dtype, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch features"]:
        return self.part(x, slice(None))

    def part(
        self, x: Float[Array, "*batch width"], columns: slice, apply: Callable[..., Array] = linear
    ) -> Float[Array, "*batch chosen_features"]:
        """Computes chosen columns of the output, with `linear` or `linear_for_kernel`."""
        kernel, bias = (x[..., columns].astype(self.dtype) for x in (self.kernel, self.bias))
        return checkpoint_name(apply(x.astype(self.dtype), kernel, bias), self.saved_as)


class Projection(Linear):
    """A linear layer before attention (to queries, keys, values) or after it (from attention's output)."""

    saved_as = PROJECTION


class LayerNorm(nnx.LayerNorm):
    """LayerNorm: (x - mean) / sqrt(variance + 1e-6) * scale + bias over the channels, with statistics in float32."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(width, epsilon=EPSILON, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return layer_norm(x, self.scale[...], self.bias[...]).astype(self.dtype)

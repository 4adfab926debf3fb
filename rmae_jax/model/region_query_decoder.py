"""The region decoder of variant "length": a query per region, expanded to a map (R-MAE section 3)."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rmae_jax.model.attention import Attention, CrossAttention
from rmae_jax.model.blocks import MLP, run_stack, stack
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.ops.activation_names import LINEAR
from rmae_jax.model.ops.gelu import gelu
from rmae_jax.model.region_encoder import RegionFeatures
from rmae_jax.model.remat import PLAIN, Execution, block_method

Queries = Float[Array, "batch regions width"]


class QueryBlock(nnx.Module):
    """An ordinary decoder block: self-attention over the queries, cross-attention to the memory, MLP."""

    def __init__(self, width: int, num_heads: int, *, execution: Execution = PLAIN, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.execution, attention = execution, {"implementation": execution.attention, "dtype": dtype, "rngs": rngs}
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, **attention)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.cross_attention = CrossAttention(width, num_heads, **attention)
        self.norm3 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    @block_method
    def __call__(self, queries: Queries, memory: Float[Array, "batch tokens width"]) -> Queries:
        queries = queries + self.attention(self.norm1(queries))
        queries = queries + self.cross_attention(self.norm2(queries), memory)
        return queries + self.mlp(self.norm3(queries))


class ExpansionBlock(nnx.Module):
    """The last decoder block, which expands each query to a map by adding it to the value of every position.

    It has no softmax and no keys: x[b, l, k] = q[b, k] + Linear(memory)[b, l], then an MLP without a residual.
    Regions are the inner axis, since 8 of them fill the rows of a TPU register, which positions would not.
    """

    def __init__(self, width: int, num_heads: int, *, execution: Execution = PLAIN, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.execution = execution
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, implementation=execution.attention, dtype=dtype, rngs=rngs)
        self.value = Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm3 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, width, dtype=dtype, rngs=rngs)

    @block_method
    def __call__(
        self, queries: Queries, memory: Float[Array, "batch positions width"]
    ) -> Float[Array, "batch positions*regions width"]:
        """Returns the maps' tokens, (B, L * K, D); the K tokens of a position are adjacent."""
        queries = queries + self.attention(self.norm1(queries))
        hidden = linear_of_normed_sum(self.mlp.fc1, self.norm3, queries, self.value(memory))
        return self.mlp.fc2(gelu(hidden.reshape(len(hidden), -1, hidden.shape[3])))


class QueryDecoder(nnx.Module):
    """The decoder from pooled regions and memory to K maps: ordinary blocks, the expansion block, and the head."""

    def __init__(
        self,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        execution: Execution = PLAIN,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.query_norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.query_proj = Linear(width, width, dtype=dtype, rngs=rngs)
        # The paper's depth of 1 is the expansion block without ordinary blocks.
        make = partial(QueryBlock, width, num_heads, dtype=dtype)
        self.blocks = stack(make, depth - 1, execution, rngs) if depth > 1 else None
        self.expansion = ExpansionBlock(width, num_heads, execution=execution, dtype=dtype, rngs=rngs)
        self.head = Linear(width, patch_size**2, dtype=dtype, rngs=rngs)

    def first_memory_token(self, first_token: int) -> int:
        """Returns the first memory token that is read to predict the patches from `first_token` on; 0 is cls."""
        return first_token if self.blocks is None else 0

    def __call__(
        self, features: RegionFeatures, memory: Float[Array, "batch tokens width"], first_token: int
    ) -> tuple[Float[Array, "batch regions positions pixels"], Queries]:
        """Predicts the maps.

        Args:
          features: the region encoder's features of each map.
          memory: tokens of cls and every patch, in the order of the regions' mask, from token
            `first_memory_token(first_token)` on.
          first_token: the token of the first patch to predict.

        Returns:
          The predictions for those patches, and the region queries, which encode neither position nor order.
        """
        pooled = features.mean.reshape(len(memory), -1, features.mean.shape[-1])  # (B, K, D)
        queries = x = self.query_proj(self.query_norm(pooled))
        if self.blocks is not None:
            x = run_stack(self.blocks, x, memory)
            memory = memory[:, first_token:]
        pred = self.head(gelu(self.expansion(x, memory)))
        return pred.reshape(len(pred), -1, x.shape[1], pred.shape[2]).swapaxes(1, 2), queries


def linear_of_normed_sum(
    linear: nnx.Linear,
    norm: nnx.LayerNorm,
    queries: Queries,
    values: Float[Array, "batch positions width"],
) -> Float[Array, "batch positions regions features"]:
    """Computes linear(norm(q[:, None] + v[:, :, None])) without a matrix product over all pairs (l, k).

    With q and v centred over their channels, the norm's variance is that of a sum, var(q_k) + var(v_l) +
    2 cov(q_k, v_l). The linear layer is applied to q_k and v_l separately, and the sum of its outputs divided by the
    standard deviation. This is exact, and replaces K * L products of a vector of width D with the matrix by K + L.
    """
    q, v = (x.astype(jnp.float32) - x.mean(axis=-1, keepdims=True, dtype=jnp.float32) for x in (queries, values))
    covariance = jnp.einsum("bkd,bld->blk", q, v, precision=jax.lax.Precision.HIGHEST) / q.shape[-1]
    variance = (q**2).mean(axis=-1)[:, None] + (v**2).mean(axis=-1)[:, :, None] + 2 * covariance
    # Rounding may make the variance of nearly opposite vectors negative.
    inverse_std = jax.lax.rsqrt(jnp.maximum(variance, 0) + norm.epsilon)[..., None]

    kernel, dtype = linear.kernel[...], linear.dtype
    scaled = (norm.scale[...][:, None] * kernel).astype(dtype)
    from_q, from_v = (jnp.matmul(x.astype(dtype), scaled, preferred_element_type=jnp.float32) for x in (q, v))
    constant = norm.bias[...] @ kernel + linear.bias[...]
    return checkpoint_name(((from_q[:, None] + from_v[:, :, None]) * inverse_std + constant).astype(dtype), LINEAR)

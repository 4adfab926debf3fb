"""Transformer blocks: pre-LN, fused qkv, exact GELU, as in ViT and MAE."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Shaped

from rmae_jax.model.attention import Attention, Tokens
from rmae_jax.model.layers import LayerNorm, Linear
from rmae_jax.model.ops.activation_names import LINEAR
from rmae_jax.model.ops.gelu import gelu
from rmae_jax.model.remat import PLAIN, Execution, block_method


class MLP(nnx.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.fc2(gelu(self.fc1(x)))

    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """Computes the mean over tokens of a call's output; the second layer, being linear, is applied to the mean."""
        hidden = gelu(self.fc1(x)).mean(axis=1)  # small enough to be saved
        return self.fc2(checkpoint_name(hidden, LINEAR))


class Block(nnx.Module):
    """A pre-LN transformer block: x + attention(LN(x)), then x + MLP(LN(x)) with four times the width inside."""

    def __init__(self, width: int, num_heads: int, *, execution: Execution = PLAIN, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.execution = execution
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, implementation=execution.attention, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    @block_method
    def __call__(self, x: Tokens, *, first_query: int = 0) -> Float[Array, "batch out_tokens width"]:
        """Computes the output tokens from `first_query` on; they attend to all input tokens."""
        x = x[:, first_query:] + self.attention(self.norm1(x), first_query=first_query)
        return x + self.mlp(self.norm2(x))

    @block_method
    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """Computes the mean over tokens of a call's output, at less cost than the output."""
        x = x + self.attention(self.norm1(x))
        return x.mean(axis=1) + self.mlp.mean(self.norm2(x))


class Blocks(nnx.Module):
    """A sequence of blocks whose last block is separate, so that it can compute only the output that is needed."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        *,
        execution: Execution = PLAIN,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        make = partial(Block, width, num_heads, dtype=dtype)
        self.body = stack(make, depth - 1, execution, rngs) if depth > 1 else None
        self.last = make(execution=execution, rngs=rngs)

    def __call__(self, x: Tokens, *, first_query: int = 0) -> Float[Array, "batch out_tokens width"]:
        """Computes the output tokens from `first_query` on."""
        return self.last(self._before_last(x), first_query=first_query)

    def with_mean(self, x: Tokens) -> tuple[Tokens, Float[Array, "batch width"]]:
        """Returns the output and its mean over tokens; the compiler drops whichever of the two is not used."""
        x = self._before_last(x)
        return self.last(x), self.last.mean(x)

    def _before_last(self, x: Tokens) -> Tokens:
        return x if self.body is None else run_stack(self.body, x)


def stack(make: Callable[..., nnx.Module], depth: int, execution: Execution, rngs: nnx.Rngs) -> nnx.Module:
    """Builds a stack of `depth` blocks: one block whose parameters have a leading axis. `run_stack` runs it."""
    keys = jax.random.split(rngs.params(), depth)
    return jax.vmap(lambda key: make(execution=execution.in_loop(), rngs=nnx.Rngs(key)))(keys)


def run_stack(
    blocks: nnx.Module, x: Shaped[Array, "batch tokens width"], *args: Shaped[Array, "..."]
) -> Shaped[Array, "batch tokens width"]:
    """Applies the blocks of a stack in sequence; each block also receives `args`."""
    unroll = blocks.execution.unrolled
    return jax.lax.scan(lambda x, block: (block(x, *args), None), x, blocks, unroll=unroll)[0]

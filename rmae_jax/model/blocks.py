"""Transformer blocks: pre-LN, fused qkv, exact GELU, as in ViT and MAE."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Shaped

from rmae_jax.model.attention import Attention, Tokens
from rmae_jax.model.layers import LINEAR, LayerNorm, Linear, gelu


class MLP(nnx.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.fc1 = Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        return self.fc2(gelu(self.fc1(x)))

    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """The mean over the tokens of a call's output; the second layer is linear, so it acts on the mean alone."""
        hidden = gelu(self.fc1(x)).mean(axis=1)  # small enough to be kept
        return self.fc2(checkpoint_name(hidden, LINEAR))


class Block(nnx.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) with four times the width inside."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch out_tokens width"]:
        """The output's tokens from `first` on; they see all tokens of the input."""
        x = x[:, first:] + self.attention(self.norm1(x), first)
        return x + self.mlp(self.norm2(x))

    def mean(self, x: Tokens) -> Float[Array, "batch width"]:
        """The mean over the tokens of a call's output, at less cost."""
        x = x + self.attention(self.norm1(x))
        return x.mean(axis=1) + self.mlp.mean(self.norm2(x))


class Blocks(nnx.Module):
    """Blocks in a row, of which what follows needs a part: the last stands alone and computes that part."""

    def __init__(self, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.body = stack(partial(Block, width, num_heads, dtype=dtype), depth - 1, rngs) if depth > 1 else None
        self.last = Block(width, num_heads, dtype=dtype, rngs=rngs)

    def __call__(self, x: Tokens, first: int = 0) -> Float[Array, "batch out_tokens width"]:
        """The output's tokens from `first` on."""
        return self.last(self._before_last(x), first)

    def with_mean(self, x: Tokens) -> tuple[Tokens, Float[Array, "batch width"]]:
        """The output and its mean over the tokens; compiled, only what is used of the two is computed."""
        x = self._before_last(x)
        return self.last(x), self.last.mean(x)

    def _before_last(self, x: Tokens) -> Tokens:
        return x if self.body is None else run_stack(self.body, x)


class Unrolled(nnx.Module):
    """A stack whose modules `run_stack` puts one behind the other into the program, each compiled on its own."""

    def __init__(self, blocks: nnx.Module):
        self.blocks = blocks


def stack(make: Callable[..., nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` equal modules as one whose parameters have a leading axis: run by `run_stack`, in a loop."""
    return jax.vmap(lambda key: make(rngs=nnx.Rngs(key)))(jax.random.split(rngs.params(), depth))


def run_stack(
    blocks: nnx.Module, x: Shaped[Array, "batch tokens width"], *args: Shaped[Array, "..."]
) -> Shaped[Array, "batch tokens width"]:
    """Applies the modules of a stack one after the other; `args` go to each of them."""
    unroll = isinstance(blocks, Unrolled)
    blocks = blocks.blocks if unroll else blocks
    return jax.lax.scan(lambda x, block: (block(x, *args), None), x, blocks, unroll=unroll)[0]

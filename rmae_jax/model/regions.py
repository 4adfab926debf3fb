"""The region branch: region maps as queries, completed from what the pixel encoder saw (R-MAE section 3)."""

from functools import partial

import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import (
    MLP,
    Attention,
    Block,
    CrossAttention,
    LayerNorm,
    Linear,
    gelu,
    run_stack,
    stack,
)
from rmae_jax.model.masks import Mask, take
from rmae_jax.model.patches import patchify, sincos_positions

Queries = Float[Array, "batch regions width"]


def region_patches(
    regions: Float[Array, "batch regions height width"], patch_size: int
) -> Float[Array, "batch patches regions pixels"]:
    """Cuts the K maps of each image into patches; patches come first, so that a mask takes them for all K."""
    return patchify(regions[..., None], patch_size).swapaxes(1, 2)


class RegionEncoder(nnx.Module):
    """The visible part of each region map -> one query: a small ViT over each map alone, averaged."""

    def __init__(self, patch_size: int, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.width = width
        self.patch_embed = Linear(patch_size**2, width, dtype=dtype, rngs=rngs)
        self.blocks = stack(lambda rngs: Block(width, num_heads, dtype=dtype, rngs=rngs), depth, rngs)
        self.norm = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, patches: Float[Array, "batch patches regions pixels"], mask: Mask, grid: tuple[int, int]
    ) -> Queries:
        """Encodes the patches that `mask` leaves visible of each map; queries carry no position and no order."""
        batch, _, num_regions, _ = patches.shape
        positions = jnp.asarray(sincos_positions(self.width, grid))[mask.visible_ids]
        # Masked before the embedding, so that only visible patches are embedded.
        x = self.patch_embed(take(patches, mask.visible_ids) - 0.5)
        x = x + positions[:, :, None].astype(x.dtype)
        x = x.swapaxes(1, 2).reshape(batch * num_regions, mask.num_visible, self.width)
        x = run_stack(self.blocks, x).mean(axis=1).reshape(batch, num_regions, self.width)
        return self.proj(self.norm(x))


class QueryBlock(nnx.Module):
    """An ordinary decoder block: self-attention over the queries, cross-attention to the memory, MLP."""

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.cross_attention = CrossAttention(width, num_heads, dtype=dtype, rngs=rngs)
        self.norm3 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, 4 * width, dtype=dtype, rngs=rngs)

    def __call__(self, queries: Queries, memory: Float[Array, "batch tokens width"]) -> Queries:
        queries = queries + self.attention(self.norm1(queries))
        queries = queries + self.cross_attention(self.norm2(queries), memory)
        return queries + self.mlp(self.norm3(queries))


class ExpansionBlock(nnx.Module):
    """The last decoder block: each query becomes a map by being added to every position's value.

    There is no softmax and no key: x[b, k, l] = q[b, k] + Linear(memory)[b, l], then an MLP without a residual.
    """

    def __init__(self, width: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, num_heads, dtype=dtype, rngs=rngs)
        self.value = Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm3 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = MLP(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, queries: Queries, memory: Float[Array, "batch positions width"]
    ) -> Float[Array, "batch regions positions width"]:
        queries = queries + self.attention(self.norm1(queries))
        x = queries[:, :, None] + self.value(memory)[:, None]
        return self.mlp(self.norm3(x))


class RegionDecoder(nnx.Module):
    """Queries and memory -> K maps: ordinary blocks, the expansion block, and the head ("length" variant)."""

    def __init__(self, patch_size: int, width: int, depth: int, num_heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        make = partial(QueryBlock, width, num_heads, dtype=dtype)
        # A depth of 1 is the expansion block alone, the paper's choice.
        self.blocks = stack(lambda rngs: make(rngs=rngs), depth - 1, rngs) if depth > 1 else None
        self.expansion = ExpansionBlock(width, num_heads, dtype=dtype, rngs=rngs)
        self.head = Linear(width, patch_size**2, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Queries,
        memory: Float[Array, "batch patches_and_cls width"],
        masked: Mask | None,
    ) -> Float[Array, "batch regions positions pixels"]:
        """Completes the maps: logits for the patches that `masked` hides, in its order, or for every patch."""
        if self.blocks is not None:
            queries = run_stack(self.blocks, queries, memory)
        positions = memory[:, 1:] if masked is None else take(memory[:, 1:], masked.masked_ids)
        return self.head(gelu(self.expansion(queries, positions)))


def region_loss(
    logits: Float[Array, "batch regions masked pixels"],
    targets: Float[Array, "batch masked regions pixels"],
    background_weight: float,
) -> Float[Array, ""]:
    """Binary cross-entropy of the completed maps, averaged over pixels, regions and masked patches.

    Background pixels weigh `background_weight`, foreground pixels 1, and the weights are not renormalised.
    """
    targets = targets.swapaxes(1, 2)
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return jnp.mean(losses * jnp.where(targets > 0.5, 1.0, background_weight))

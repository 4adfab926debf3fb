"""Attention weights of the encoder's heads."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from matplotlib.figure import Figure

from rmae_jax.feature_extraction import as_input
from rmae_jax.inspect.figures import panels, show, styled
from rmae_jax.model import RMAE
from rmae_jax.model.blocks import run_stack
from rmae_jax.model.encoder import PixelEncoder
from rmae_jax.model.ops.plain_attention import attention_weights as weights_of
from rmae_jax.photographs import Photograph

COLUMNS = 4


def attention_weights(
    model: RMAE, image: UInt8[np.ndarray, "height width 3"], *, block: int = -1, token: int = 0
) -> Float[np.ndarray, "heads tokens"]:
    """Computes one token's attention weights to all tokens of an unmasked image: the softmax in each head.

    Args:
      model: a model of any objective.
      image: an image whose sides are multiples of the patch size.
      block: index of an encoder block, from 0; negative indices count from the last.
      token: index of the token whose query is used: 0 is cls, 1 + row * columns + column is a patch.

    Returns:
      (heads, 1 + L): cls first, then the patches row by row. Each row sums to 1.

    Raises:
      ValueError: there is no such block or token, or the image cannot be cut into patches.
    """
    model, depth = model.at_size(*image.shape[:2]), model.config.depth
    if not -depth <= block < depth:
        raise ValueError(
            f"no block {block}: the encoder has {depth} blocks, 0 to {depth - 1} or, from the end, -{depth} to -1"
        )
    patch = model.config.patch_size
    num_tokens = 1 + (image.shape[0] // patch) * (image.shape[1] // patch)
    if not 0 <= token < num_tokens:
        raise ValueError(f"no token {token}: the image has {num_tokens} tokens, cls and its patches")
    return np.asarray(_weights(model.encoder, as_input(image[None]), jnp.asarray(token), block % depth))


@partial(jax.jit, static_argnames="block")
def _weights(
    encoder: PixelEncoder, images: Float[Array, "1 height width 3"], token: Int[Array, ""], block: int
) -> Float[Array, "heads tokens"]:
    before = jax.tree.map(lambda leaf: leaf[:block], encoder.blocks)
    target = jax.tree.map(lambda leaf: leaf[block], encoder.blocks)
    x = target.norm1(run_stack(before, encoder.embed(images)))
    width, attention = x.shape[-1], target.attention
    query = attention.qkv.part(jax.lax.dynamic_slice_in_dim(x, token, 1, axis=1), slice(width))
    keys = attention.qkv.part(x, slice(width, 2 * width))
    return weights_of(query, keys, attention.num_heads)[0, :, 0]


def attention_maps(
    model: RMAE, image: UInt8[np.ndarray, "height width 3"], *, block: int = -1
) -> Float[np.ndarray, "heads rows columns"]:
    """Computes the attention weights of a block's cls token to each patch, by head, without the weight to itself.

    Raises:
      ValueError: there is no such block, or the image cannot be cut into patches.
    """
    rows = image.shape[0] // model.config.patch_size
    patches = attention_weights(model, image, block=block)[:, 1:]
    return patches.reshape(len(patches), rows, -1)


@styled
def draw_attention(photograph: Photograph, maps: Float[np.ndarray, "heads rows columns"]) -> Figure:
    """Draws the photograph, the mean of the heads, and each head; each map is scaled from 0 to its largest weight."""
    height, width = photograph.image.shape[:2]
    pictures = 2 + len(maps)
    figure, axes = panels(-(-pictures // COLUMNS), COLUMNS, height / width, text=0.36)
    show(axes.flat[0], photograph.image, "photograph")
    titles = ["mean of heads", *(f"head {1 + head}" for head in range(len(maps)))]
    for axis, title, one in zip(axes.flat[1:], titles, [maps.mean(axis=0), *maps], strict=False):
        show(axis, one, title, f"{one.sum():.0%} on patches", vmax=one.max(), cmap="magma")
    return figure

"""The pre-trained encoder with a classification head, for fine-tuning."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rmae_jax.model.blocks import Block
from rmae_jax.model.encoder import PixelEncoder
from rmae_jax.model.layers import LayerNorm


class Classifier(nnx.Module):
    """An encoder, the mean of its patch tokens, LayerNorm, and a linear layer (MAE's fine-tuning with global pooling).

    As in MAE, the encoder's own last LayerNorm is not used. Blocks are dropped at random during training (stochastic
    depth); the drop rate grows linearly with depth.
    """

    def __init__(self, encoder: PixelEncoder, num_classes: int, drop_path: float, *, rngs: nnx.Rngs):
        self.encoder = encoder
        self.drop_path = drop_path
        self.norm = LayerNorm(encoder.width, dtype=jnp.dtype("float32"), rngs=rngs)
        init = nnx.initializers.truncated_normal(2e-5)
        self.head = nnx.Linear(encoder.width, num_classes, kernel_init=init, rngs=rngs)

    def __call__(
        self, images: Float[Array, "batch height width 3"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch classes"]:
        """Computes the logits. For training, `key` draws what is dropped; without it, nothing is dropped."""
        x, blocks = self.encoder.embed(images), self.encoder.blocks
        depth = jax.tree.leaves(nnx.to_pure_dict(nnx.state(blocks)))[0].shape[0]
        if key is None:
            x = jax.lax.scan(lambda x, block: (block(x), None), x, blocks)[0]
        else:
            rates = jnp.linspace(0, self.drop_path, depth)
            layers = (blocks, rates, jax.random.split(key, depth))
            x = jax.lax.scan(lambda x, layer: (_block(*layer, x), None), x, layers)[0]
        return self.head(self.norm(x[:, 1:].mean(axis=1, dtype=jnp.float32)))


def _block(
    block: Block, rate: Float[Array, ""], key: PRNGKeyArray, x: Float[Array, "batch tokens features"]
) -> Float[Array, "batch tokens features"]:
    """Applies a block whose two residual branches are dropped per image with probability `rate`, else scaled up."""
    keys = jax.random.split(key)
    x = x + drop(block.attention(block.norm1(x)), rate, keys[0])
    return x + drop(block.mlp(block.norm2(x)), rate, keys[1])


def drop(
    x: Float[Array, "batch tokens features"], rate: Float[Array, ""], key: PRNGKeyArray
) -> Float[Array, "batch tokens features"]:
    """Zeroes random images of the batch; divides the others by the survival probability, to preserve the mean."""
    kept = jax.random.bernoulli(key, 1 - rate, (len(x), 1, 1))
    return jnp.where(kept, x / (1 - rate).astype(x.dtype), 0)


def layer_scales(params: PyTree[Array], depth: int, decay: float) -> PyTree[Float[Array, "..."]]:
    """Returns each parameter's learning-rate multiplier: 1 for the head, times `decay` for each layer below it.

    As in BEiT and MAE, the patch embedding and cls token are layer 0, block i (from 0) is layer i + 1, and the head's
    LayerNorm and linear layer are layer depth + 1. The multipliers broadcast against the parameters.
    """

    def scale(path: tuple, leaf: Array) -> Array:
        names = [key.key for key in path]
        if names[0] != "encoder" or names[1] == "norm":
            return jnp.ones((1,) * leaf.ndim)
        if names[1] != "blocks":
            return jnp.full((1,) * leaf.ndim, decay ** (depth + 1))
        return (decay ** jnp.arange(depth, 0, -1.0)).reshape(-1, *[1] * (leaf.ndim - 1))

    return jax.tree_util.tree_map_with_path(scale, params)


def is_decayed(params: PyTree[Array]) -> PyTree[bool]:
    """Returns which parameters have weight decay: matrices do; biases, norms and the cls token do not."""

    def decayed(path: tuple, leaf: Array) -> bool:
        return path[-1].key == "kernel"

    return jax.tree_util.tree_map_with_path(decayed, params)

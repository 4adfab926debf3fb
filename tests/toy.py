"""A model small enough for exact comparisons. It is compiled as a whole: operation by operation takes minutes."""

import functools

import jax
import ml_collections
import numpy as np
from flax import nnx

from configs import rmae_b
from rmae_jax.model import RMAE


def toy_config(**changes) -> ml_collections.ConfigDict:
    """Returns `config.model` of a recipe with toy sizes, in float32."""
    config = rmae_b.get_config().model
    toy = {
        "image_size": 32,
        "patch_size": 8,
        "width": 48,
        "depth": 3,
        "num_heads": 4,
        "decoder_width": 32,
        "decoder_depth": 2,
        "decoder_num_heads": 4,
        "num_regions": 5,
        "region_width": 16,
        "region_num_heads": 2,
        "neck_depth": 2,
        "dtype": "float32",
    }
    config.update(toy | changes)
    return config


@functools.cache
def toy_model(**changes) -> RMAE:
    """Builds a toy model with initial weights."""
    return jax.jit(lambda: RMAE(toy_config(**changes), rngs=nnx.Rngs(0)))()


@functools.cache
def randomised(**changes) -> RMAE:
    """Builds a toy model whose biases, norms and tokens are far from their initial values."""
    graphdef, params = nnx.split(toy_model(**changes))
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(params))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, moved))


def flat(tree) -> dict[str, np.ndarray]:
    """Returns a module's parameters, or their gradients, by path."""
    pure = nnx.to_pure_dict(nnx.state(tree))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(pure)
    }


forward = jax.jit(lambda model, *inputs: model(*inputs))
reconstruct = jax.jit(lambda model, *inputs: model.reconstruct(*inputs))

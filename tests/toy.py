"""Models small enough to be compared number by number, compiled as a whole.

NumPy draws their weights: a program that draws initial weights takes longer to compile than the model itself.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import PyTree

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
    """Returns a model of these sizes with weights as large as initial ones."""
    return with_random_weights(lambda: RMAE(toy_config(**changes), rngs=nnx.Rngs(0)))


@functools.cache
def randomised(**changes) -> RMAE:
    """Returns a model of these sizes whose biases, norms and tokens are far from their initial values."""
    return shaken(toy_model(**changes), scale=0.1)


def with_random_weights(make: Callable[[], nnx.Module], seed: int = 0) -> nnx.Module:
    """Returns the module that `make` builds with Xavier-normal kernels, tokens of 0.02, biases of 0, scales of 1."""
    graphdef, shapes = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graphdef, random_weights(nnx.to_pure_dict(shapes), seed))


def random_weights(shapes: PyTree, seed: int = 0) -> PyTree:
    """Returns such weights for the shapes of parameters."""
    rng = np.random.default_rng(seed)

    def value(path: tuple, shape: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if "bias" in name or "scale" in name:
            return jnp.full(shape.shape, float("scale" in name), shape.dtype)
        width = np.sqrt(2 / sum(shape.shape[-2:])) if "kernel" in name else 0.02
        return jnp.asarray(rng.normal(0, width, shape.shape), shape.dtype)

    return jax.tree_util.tree_map_with_path(value, shapes)


def shaken(module: nnx.Module, scale: float) -> nnx.Module:
    """Returns the module with noise added to each weight."""
    rng, (graphdef, params) = np.random.default_rng(7), nnx.split(module)
    moved = jax.tree.map(
        lambda leaf: leaf + jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype), nnx.to_pure_dict(params)
    )
    return nnx.merge(graphdef, moved)


def flat(tree) -> dict[str, np.ndarray]:
    """Returns a module\'s parameters, or their gradients, by path."""
    pure = nnx.to_pure_dict(nnx.state(tree))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(pure)
    }


forward = jax.jit(lambda model, *inputs: model(*inputs))
reconstruct = jax.jit(lambda model, *inputs: model.reconstruct(*inputs))

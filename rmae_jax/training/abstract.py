"""A recipe's model without its numbers."""

import functools

import ml_collections
from flax import nnx
from jaxtyping import PyTree

from rmae_jax.model import RMAE


def abstract_model(config: ml_collections.ConfigDict) -> tuple[nnx.GraphDef, PyTree]:
    """What the model of `config`, a recipe's `model`, is made of, and its parameters' shapes as nested dicts."""
    return _made(ml_collections.FrozenConfigDict(config))


@functools.lru_cache(maxsize=1)  # half a second each time, and a run asks for it in many places
def _made(config: ml_collections.FrozenConfigDict) -> tuple[nnx.GraphDef, PyTree]:
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(shapes)

"""The shapes of a model's parameters, without their values."""

import functools

import ml_collections
from flax import nnx
from jaxtyping import PyTree

from rmae_jax.model.remat import PLAIN, Execution
from rmae_jax.model.rmae import RMAE


def abstract_model(config: ml_collections.ConfigDict, execution: Execution = PLAIN) -> tuple[nnx.GraphDef, PyTree]:
    """Returns the structure of the model of `config` (a recipe's `model`) and its parameters' shapes, as dicts."""
    return _abstract_model(ml_collections.FrozenConfigDict(config), execution)


@functools.lru_cache(maxsize=2)  # takes half a second, and a run calls it in many places
def _abstract_model(config: ml_collections.FrozenConfigDict, execution: Execution) -> tuple[nnx.GraphDef, PyTree]:
    model = nnx.eval_shape(lambda: RMAE(config, execution=execution, rngs=nnx.Rngs(0)))
    graphdef, shapes = nnx.split(model)
    return graphdef, nnx.to_pure_dict(shapes)

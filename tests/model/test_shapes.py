import jax
from flax import nnx

from rmae_jax.model import RMAE
from rmae_jax.model.shapes import abstract_model


def test_what_a_model_is_made_of_follows_the_recipe(config):
    for width in (32, 16):  # the same recipe, changed
        config.model.region_width = width
        graphdef, shapes = abstract_model(config.model)
        made = nnx.split(RMAE(config.model, rngs=nnx.Rngs(0)))
        assert graphdef == made[0]
        assert jax.tree.map(lambda x: x.shape, shapes) == jax.tree.map(lambda x: x.shape, nnx.to_pure_dict(made[1]))

"""One optimisation step, compiled for all devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from rmae_jax.model import RMAE, draw_masks, normalize, unpack_regions
from rmae_jax.training.mesh import replicated, split_batch

Losses = dict[str, Array]  # loss and what it is the sum of
Batch = dict[str, Array]


class TrainState(NamedTuple):
    """All that a step changes, and all that a checkpoint holds: the data needs no state of its own."""

    step: Int[Array, ""]  # steps done
    params: PyTree  # nested dicts by module name
    opt_state: PyTree


def init_state(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh, model: RMAE | None = None
) -> TrainState:
    """The state before the first step, made in place on the devices.

    The weights are those of `model`; without one, they depend on `config.seed` alone.
    """

    def start(params: PyTree) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    def start_at_random() -> TrainState:
        return start(nnx.to_pure_dict(nnx.state(RMAE(config.model, rngs=nnx.Rngs(config.seed)))))

    if model is None:
        return jax.jit(start_at_random, out_shardings=replicated(mesh))()
    return jax.jit(start, out_shardings=replicated(mesh))(nnx.to_pure_dict(nnx.state(model)))


def train_step(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Losses]]:
    """Compiles the step: (state, batch) -> (state, losses). The old state's memory is reused (donated).

    A batch is {"images": uint8 (B, S, S, 3), "regions": bitmask (B, S, S)} and, with foreground sampling,
    "permutation": (B, L) of the regions' mask. What is not given so, the patches to mask are drawn from (config.seed,
    state.step), so that a step can be repeated bit for bit.
    """
    model_config = config.model
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: RMAE(model_config, rngs=nnx.Rngs(0))))
    num_patches = (model_config.image_size // model_config.patch_size) ** 2

    def loss(params: PyTree, batch: Batch, key: Array) -> tuple[Array, Losses]:
        images = normalize(batch["images"])
        masks = draw_masks(key, model_config, images.shape[0], num_patches, batch.get("permutation"))
        regions = None
        if model_config.objective != "mae":
            regions = unpack_regions(batch["regions"], model_config.num_regions)
        outputs = nnx.merge(graphdef, params)(images, regions, *masks)
        found = {"loss": outputs.loss, "pixel_loss": outputs.pixel_loss, "region_loss": outputs.region_loss}
        return outputs.loss, {name: value for name, value in found.items() if value is not None}

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Losses]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        grads, losses = jax.grad(loss, has_aux=True)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), losses

    whole, split = replicated(mesh), split_batch(mesh)
    return jax.jit(step, donate_argnums=0, in_shardings=(whole, split), out_shardings=whole)

"""The training step, compiled for all devices of a mesh."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int, PyTree

from rmae_jax.model import BLOCKS, RMAE, Mask, draw_masks, normalize
from rmae_jax.model.remat import Execution
from rmae_jax.model.shapes import abstract_model
from rmae_jax.training.mesh import AXES, DATA, FSDP, replicated, split_batch
from rmae_jax.training.sharding import gather, shardings, specs, to_shards

Losses = dict[str, Array]  # the loss and its terms
Batch = dict[str, Array]


class TrainState(NamedTuple):
    """The state that a step updates and a checkpoint stores; the data needs no state of its own."""

    step: Int[Array, ""]  # steps done
    params: PyTree  # nested dicts by module name
    opt_state: PyTree


def abstract_state(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Returns the shapes, dtypes and shardings of a state on a mesh, into which a checkpoint is restored."""
    return _abstract_state(abstract_model(config.model)[1], optimizer, mesh)


def init_state(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh, model: RMAE | None = None
) -> TrainState:
    """Creates the state before the first step, directly on the devices.

    The weights are those of `model`; without a model, they depend only on `config.seed`.
    """
    places = jax.tree.map(lambda x: x.sharding, abstract_state(config, optimizer, mesh))
    if model is None:
        return jax.jit(lambda: _initial_state(_random_params(config), optimizer), out_shardings=places)()
    params = jax.device_get(nnx.to_pure_dict(nnx.state(model)))  # the same on every host
    return jax.jit(lambda params: _initial_state(params, optimizer), out_shardings=places)(params)


def train_step(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Losses]]:
    """Returns the jitted step: (state, batch) -> (state, losses). The old state's memory is reused (donated).

    A batch is {"images": uint8 (B, S, S, 3), "regions": bitmask (B, S, S)} and, with foreground sampling,
    "permutation": (B, L) of the regions' mask. Other masks are drawn from (config.seed, state.step), so that a step can
    be repeated bit for bit.

    Each device computes losses and gradients of its own part of the batch (shard_map). The compiler therefore has no
    activations to move, and all communication is written out here and in `sharding.gather`.
    """
    model_config = config.model
    execution = Execution.choose(
        # The mesh's devices, not the default ones: a step may be compiled for devices that this machine lacks.
        mesh.devices.flat[0].platform,
        attention=config.attention,
        blocks=config.blocks,
        remat=config.remat,
        gather=gather if mesh.shape[FSDP] > 1 else None,
    )
    graphdef, params = abstract_model(model_config, execution)
    num_patches = (model_config.image_size // model_config.patch_size) ** 2
    split = specs(params, mesh)

    def with_masks(batch: Batch, key: Array) -> Batch:
        """Returns the batch with the permutations of its masks: "mask" and, with separate masks, "region_mask"."""
        drawn = draw_masks(key, model_config, len(batch["images"]), num_patches, batch.get("permutation"))
        names = ("mask", "region_mask") if model_config.separate_masks else ("mask",)
        permutations = {name: mask.permutation for name, mask in zip(names, drawn, strict=False)}
        return {name: values for name, values in batch.items() if name != "permutation"} | permutations

    def loss(params: PyTree, batch: Batch) -> tuple[Array, Losses]:
        masks = [Mask.from_permutation(batch["mask"], model_config.mask_ratio)]
        if "region_mask" in batch:
            masks.append(Mask.from_permutation(batch["region_mask"], model_config.region_mask_ratio))
        # Blocks gather their own weights when they run.
        model = gather(nnx.merge(graphdef, to_shards(params, split)), keep=BLOCKS)
        outputs = model(normalize(batch["images"]), batch.get("regions"), *masks)
        found = {"loss": outputs.loss, "pixel_loss": outputs.pixel_loss, "region_loss": outputs.region_loss}
        return outputs.loss, {name: value for name, value in found.items() if value is not None}

    def gradients(params: PyTree, batch: Batch) -> tuple[PyTree, Losses]:
        return _accumulate(jax.grad(loss, has_aux=True), config.accumulation_steps, params, batch)

    def total(x: Array, axes: tuple[str, ...]) -> Array:
        return jax.lax.psum(x, tuple(axis for axis in axes if mesh.shape[axis] > 1))

    def mean_gradients(params: PyTree, batch: Batch) -> tuple[PyTree, Losses]:
        """Averages over the devices, each with its part of the batch; gradients are sharded like the parameters."""
        grads, losses = gradients(params, batch)
        # Gradients of split parameters are summed over "fsdp" already, as the derivative of gathering.
        grads = jax.tree.map(lambda x, spec: total(x, (DATA,) if FSDP in spec else AXES) / mesh.size, grads, split)
        return grads, jax.lax.pmean(losses, AXES)

    if mesh.size > 1:  # a single device needs no communication
        compute_gradients = jax.shard_map(
            mean_gradients,
            mesh=mesh,
            in_specs=(split, PartitionSpec(AXES)),
            out_specs=(split, PartitionSpec()),
            check_vma=False,  # the check would sum gradients inside the scan over blocks, one by one
        )
    else:
        compute_gradients = gradients

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Losses]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        grads, losses = compute_gradients(state.params, with_masks(batch, key))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), losses

    places = jax.tree.map(lambda x: x.sharding, _abstract_state(params, optimizer, mesh))
    return jax.jit(
        step, donate_argnums=0, in_shardings=(places, split_batch(mesh)), out_shardings=(places, replicated(mesh))
    )


def _abstract_state(params: PyTree, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Returns the shapes and shardings of a state with these parameters."""
    shapes = jax.eval_shape(lambda params: _initial_state(params, optimizer), params)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, shardings(shapes, mesh)
    )


def _random_params(config: ml_collections.ConfigDict) -> PyTree:
    """Returns random initial parameters."""
    return nnx.to_pure_dict(nnx.state(RMAE(config.model, rngs=nnx.Rngs(config.seed))))


def _initial_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _accumulate(
    grad: Callable[[PyTree, Batch], tuple[PyTree, Losses]], parts: int, params: PyTree, batch: Batch
) -> tuple[PyTree, Losses]:
    """Computes gradients and losses of a batch, 1 / `parts` of it at a time, which saves memory."""
    if parts == 1:
        return grad(params, batch)
    cut = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
    shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], cut))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total: tuple[PyTree, Losses], part: Batch) -> tuple[tuple[PyTree, Losses], None]:
        return jax.tree.map(jnp.add, total, grad(params, part)), None

    total, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda x: x / parts, total)

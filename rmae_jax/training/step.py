"""One optimisation step, compiled for all devices."""

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
from rmae_jax.model.execution import SAVED_BY_REMAT, Execution
from rmae_jax.model.ops.activation_names import PROJECTION
from rmae_jax.model.shapes import abstract_model
from rmae_jax.training.mesh import AXES, DATA, FSDP, replicated, split_batch
from rmae_jax.training.recipe import short_of_memory
from rmae_jax.training.sharding import gather, shardings, specs, to_shards

Losses = dict[str, Array]  # loss and what it is the sum of
Batch = dict[str, Array]


class TrainState(NamedTuple):
    """All that a step changes, and all that a checkpoint holds: the data needs no state of its own."""

    step: Int[Array, ""]  # steps done
    params: PyTree  # nested dicts by module name
    opt_state: PyTree


def abstract_state(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Shapes, dtypes and shardings of a state on a mesh: what a checkpoint is restored into."""
    return _placed(abstract_model(config.model)[1], optimizer, mesh)


def init_state(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh, model: RMAE | None = None
) -> TrainState:
    """The state before the first step, made in place on the devices.

    The weights are those of `model`; without one, they depend on `config.seed` alone.
    """
    places = jax.tree.map(lambda x: x.sharding, abstract_state(config, optimizer, mesh))
    if model is None:
        return jax.jit(lambda: _start(_random(config), optimizer), out_shardings=places)()
    params = jax.device_get(nnx.to_pure_dict(nnx.state(model)))  # the same on every host
    return jax.jit(lambda params: _start(params, optimizer), out_shardings=places)(params)


def train_step(
    config: ml_collections.ConfigDict, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Losses]]:
    """Compiles the step: (state, batch) -> (state, losses). The old state's memory is reused (donated).

    A batch is {"images": uint8 (B, S, S, 3), "regions": bitmask (B, S, S)} and, with foreground sampling,
    "permutation": (B, L) of the regions' mask. What is not given so, the patches to mask are drawn from (config.seed,
    state.step), so that a step can be repeated bit for bit.

    Losses and gradients are computed by each device for itself, on its part of the batch (shard_map): the compiler
    has no activations to move, and what devices tell each other is written here and in `sharding.gather`.
    """
    model_config = config.model
    params = abstract_model(model_config)[1]
    graphdef, _ = abstract_model(model_config, execution(config, mesh))
    num_patches = (model_config.image_size // model_config.patch_size) ** 2
    split = specs(params, mesh)

    def with_masks(batch: Batch, key: Array) -> Batch:
        """The batch, with the permutations of its masks: "mask" and, where it has another, "region_mask"."""
        drawn = draw_masks(key, model_config, len(batch["images"]), num_patches, batch.get("permutation"))
        names = ("mask", "region_mask") if model_config.separate_masks else ("mask",)
        permutations = {name: mask.permutation for name, mask in zip(names, drawn, strict=False)}
        return {name: values for name, values in batch.items() if name != "permutation"} | permutations

    def loss(params: PyTree, batch: Batch) -> tuple[Array, Losses]:
        masks = [Mask.from_permutation(batch["mask"], model_config.mask_ratio)]
        if "region_mask" in batch:
            masks.append(Mask.from_permutation(batch["region_mask"], model_config.region_mask_ratio))
        # Blocks gather their own weights, when they run.
        model = gather(nnx.merge(graphdef, to_shards(params, split)), keep=BLOCKS)
        outputs = model(normalize(batch["images"]), batch.get("regions"), *masks)
        found = {"loss": outputs.loss, "pixel_loss": outputs.pixel_loss, "region_loss": outputs.region_loss}
        return outputs.loss, {name: value for name, value in found.items() if value is not None}

    def gradients(params: PyTree, batch: Batch) -> tuple[PyTree, Losses]:
        return _accumulate(jax.grad(loss, has_aux=True), config.accumulation_steps, params, batch)

    def total(x: Array, axes: tuple[str, ...]) -> Array:
        return jax.lax.psum(x, tuple(axis for axis in axes if mesh.shape[axis] > 1))

    def gradients_of_all(params: PyTree, batch: Batch) -> tuple[PyTree, Losses]:
        """On each device, of its parts of parameters and batch; the gradients lie as the parameters do."""
        grads, losses = gradients(params, batch)
        # Split parameters: gathering them has summed their gradients over "fsdp" already.
        grads = jax.tree.map(lambda x, spec: total(x, (DATA,) if FSDP in spec else AXES) / mesh.size, grads, split)
        return grads, jax.lax.pmean(losses, AXES)

    if mesh.size > 1:  # a single device has nobody to talk to
        gradients_found = jax.shard_map(
            gradients_of_all,
            mesh=mesh,
            in_specs=(split, PartitionSpec(AXES)),
            out_specs=(split, PartitionSpec()),
            check_vma=False,  # it would sum gradients inside of the scan over blocks, one by one
        )
    else:
        gradients_found = gradients

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Losses]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        grads, losses = gradients_found(state.params, with_masks(batch, key))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), losses

    places = jax.tree.map(lambda x: x.sharding, _placed(params, optimizer, mesh))
    return jax.jit(
        step, donate_argnums=0, in_shardings=(places, split_batch(mesh)), out_shardings=(places, replicated(mesh))
    )


def execution(config: ml_collections.ConfigDict, mesh: Mesh) -> Execution:
    """Chooses how a step's model runs its blocks, by a recipe's keys attention, blocks, remat and mesh.fsdp."""
    # The mesh's devices and not the default ones: a step may be compiled for devices that this machine lacks.
    on_tpu = mesh.devices.flat[0].platform == "tpu"
    attention = "plain"
    if config.attention == "kernel" or (config.attention == "auto" and on_tpu):
        attention = "tpu_kernel" if on_tpu else "tpu_kernel_interpreted"
    unrolled = config.blocks == "unrolled"
    if config.blocks == "auto":
        unrolled = on_tpu and not short_of_memory(config, mesh.size)
    saved = SAVED_BY_REMAT[config.remat]
    if attention != "plain" and not unrolled:
        # A loop writes what is saved to a stack and reads it back, which takes a TPU longer than these products.
        saved = tuple(name for name in saved if name != PROJECTION)
    return Execution(
        attention=attention,
        saved=saved,
        barrier=short_of_memory(config, mesh.size),
        unrolled=unrolled,
        gather=gather if mesh.shape[FSDP] > 1 else None,
    )


def _placed(params: PyTree, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state of such shapes of parameters, with its shardings."""
    shapes = jax.eval_shape(lambda params: _start(params, optimizer), params)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, shardings(shapes, mesh)
    )


def _random(config: ml_collections.ConfigDict) -> PyTree:
    """Initial parameters."""
    return nnx.to_pure_dict(nnx.state(RMAE(config.model, rngs=nnx.Rngs(config.seed))))


def _start(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _accumulate(
    grad: Callable[[PyTree, Batch], tuple[PyTree, Losses]], parts: int, params: PyTree, batch: Batch
) -> tuple[PyTree, Losses]:
    """Gradients and losses of a batch, of which only 1 / `parts` is looked at at a time; the memory shrinks so."""
    if parts == 1:
        return grad(params, batch)
    cut = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
    shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], cut))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total: tuple[PyTree, Losses], part: Batch) -> tuple[tuple[PyTree, Losses], None]:
        return jax.tree.map(jnp.add, total, grad(params, part)), None

    total, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda x: x / parts, total)

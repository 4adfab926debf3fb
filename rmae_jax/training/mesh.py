"""Devices as a mesh, and how a batch lies on it."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rmae_jax.training.recipe import mesh_shape

DATA, FSDP = AXES = ("data", "fsdp")
_TAKEN = ("images", "regions", "permutation")  # what a step takes of a batch; the rest is for the host


def training_mesh(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices in the shape of config.mesh: the batch is split over both axes, parameters over "fsdp".

    Args:
      config: the recipe.
      devices: by default all that this run has; others are those of a topology that is not here.

    Raises:
      ConfigError: the shape does not fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    # Not jax.make_mesh: it thinks of wires alone, and spreads a host's rows of a batch over all of it. A host's devices
    # are neighbours, too.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    shape = mesh_shape(config, len(devices))
    return Mesh(np.array(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Batches: their first dimension over both axes."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Sends what a step takes of this process's slice of a global batch to its devices."""
    sharding = split_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items() if k in _TAKEN}


def local_copy(tree: PyTree, mesh: Mesh) -> PyTree:
    """Whole arrays on one device of this host, to be looked at outside of a step. All hosts must take part."""
    if mesh.shape[FSDP] > 1:
        tree = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)

"""The mesh of devices, and the sharding of batches on it."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rmae_jax.training.recipe import mesh_shape

DATA, FSDP = AXES = ("data", "fsdp")
_STEP_INPUTS = ("images", "regions", "permutation")  # arrays of a batch that a step takes; the host uses the others


def training_mesh(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Arranges devices in the shape of config.mesh: the batch is split over both axes, parameters over "fsdp".

    Args:
      config: the recipe.
      devices: by default, all devices of the run; those of a topology when compiling for hardware that is absent.

    Raises:
      ConfigError: the shape does not fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    # Not jax.make_mesh: it considers only links, and spreads a host's rows over the whole batch. In this order they are
    # contiguous, and a host's devices are still neighbours.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    shape = mesh_shape(config, len(devices))
    return Mesh(np.array(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches: the first dimension is split over both axes."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Sends the arrays that a step takes, of this process's slice of a global batch, to the process's devices."""
    sharding = split_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items() if k in _STEP_INPUTS}


def local_copy(tree: PyTree, mesh: Mesh) -> PyTree:
    """Returns whole arrays on one device of this host, for use outside of a step. All hosts must take part."""
    if mesh.shape[FSDP] > 1:
        tree = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(lambda x: x.addressable_data(0), tree)

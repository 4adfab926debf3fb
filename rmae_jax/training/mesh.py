"""Devices as a mesh, and how a batch lies on it."""

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rmae_jax.training.config import mesh_shape

DATA, FSDP = AXES = ("data", "fsdp")
_TAKEN = ("images", "regions", "permutation")  # what a step takes of a batch; the rest is for the host


def training_mesh(config: ml_collections.ConfigDict) -> Mesh:
    """All devices, in the shape of config.mesh: the batch is split over both axes, parameters over "fsdp".

    Raises:
      ConfigError: the shape does not fit the number of devices.
    """
    return jax.make_mesh(mesh_shape(config, jax.device_count()), AXES, axis_types=(AxisType.Auto,) * len(AXES))


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

"""Devices as a mesh, and how a batch lies on it."""

from collections.abc import Sequence

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rmae_jax.training.config import mesh_shape

DATA, FSDP = AXES = ("data", "fsdp")


def training_mesh(config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices in the shape of config.mesh: the batch is split over both axes, parameters over "fsdp".

    Args:
      config: the recipe.
      devices: by default all that this run has; others are those of a topology that is not here.

    Raises:
      ConfigError: the shape does not fit the number of devices.
    """
    shape = mesh_shape(config, jax.device_count() if devices is None else len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def split_batch(mesh: Mesh) -> NamedSharding:
    """Batches: their first dimension over both axes."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Sends this process's slice of a global batch to its devices."""
    return {k: jax.make_array_from_process_local_data(split_batch(mesh), v) for k, v in batch.items()}

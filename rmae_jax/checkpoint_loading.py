"""Loading of a trained model from a run folder, for notebooks and other programs."""

from pathlib import Path

import jax
import ml_collections
from flax import nnx

from data_prep.storage.paths import local_path
from rmae_jax.model import RMAE
from rmae_jax.model.shapes import abstract_model
from rmae_jax.runtime.devices import devices
from rmae_jax.training import recipe
from rmae_jax.training.checkpoints import CheckpointError, is_step_folder, load_params, newest


def load(checkpoint: str | Path) -> tuple[RMAE, ml_collections.ConfigDict]:
    """Loads the model of a run folder (newest step) or of one step's folder onto the default device.

    Returns:
      The model and the recipe with which it was trained.

    Raises:
      ConfigError: the folder is not that of a run.
      CheckpointError: the run has no complete checkpoint, or the checkpoint is corrupt.
      DeviceError: JAX cannot start its devices.
    """
    checkpoint = local_path(checkpoint)
    config = recipe.load(_run(checkpoint))
    place = jax.sharding.SingleDeviceSharding(devices()[0])
    graphdef, shapes = abstract_model(config.model)
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    return nnx.merge(graphdef, load_params(checkpoint, wanted)), config


def run_and_step(checkpoint: str | Path) -> tuple[Path, int]:
    """Returns the run folder and the step of a checkpoint, given a run folder (newest step) or one step's folder.

    Raises:
      CheckpointError: the run has no complete checkpoint.
    """
    checkpoint = local_path(checkpoint)
    found = checkpoint.absolute() if is_step_folder(checkpoint) else newest(checkpoint)
    if found is None:
        raise CheckpointError(f"{checkpoint} has no complete checkpoint in checkpoints/")
    return _run(checkpoint), int(found.name)


def _run(checkpoint: Path) -> Path:
    return checkpoint.absolute().parents[1] if is_step_folder(checkpoint) else checkpoint

"""Loading of a trained model from a run folder, for notebooks and other programs."""

from pathlib import Path

import jax
import ml_collections
from flax import nnx

from rmae_jax.model import RMAE
from rmae_jax.model.shapes import abstract_model
from rmae_jax.training import recipe
from rmae_jax.training.checkpoints import CheckpointError, load_params, newest


def load(checkpoint: str | Path) -> tuple[RMAE, ml_collections.ConfigDict]:
    """Loads the model of a run folder (newest step) or of one step's folder onto the default device.

    Returns:
      The model and the recipe with which it was trained.

    Raises:
      ConfigError: the folder is not that of a run.
      CheckpointError: the run has no complete checkpoint, or the checkpoint is corrupt.
    """
    checkpoint = Path(checkpoint)
    config = recipe.load(_run(checkpoint))
    graphdef, shapes = abstract_model(config.model)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    return nnx.merge(graphdef, load_params(checkpoint, wanted)), config


def run_and_step(checkpoint: str | Path) -> tuple[Path, int]:
    """Returns the run folder and the step of a checkpoint, given a run folder (newest step) or one step's folder.

    Raises:
      CheckpointError: the run has no complete checkpoint.
    """
    checkpoint = Path(checkpoint)
    found = checkpoint if checkpoint.name.isdigit() else newest(checkpoint)
    if found is None:
        raise CheckpointError(f"{checkpoint} has no complete checkpoint in checkpoints/")
    return _run(checkpoint), int(found.name)


def _run(checkpoint: Path) -> Path:
    return checkpoint.parent.parent if checkpoint.name.isdigit() else checkpoint

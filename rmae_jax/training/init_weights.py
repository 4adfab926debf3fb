"""Initial weights of a run from a file, instead of random ones: config.init_from."""

import copy
from pathlib import Path

import ml_collections

from rmae_jax import interop
from rmae_jax.interop.convert import read_model
from rmae_jax.model import RMAE
from rmae_jax.runtime.hosts import print_once
from rmae_jax.training import recipe
from rmae_jax.training.checkpoints import newest


def initial_model(config: ml_collections.ConfigDict, run: Path) -> tuple[ml_collections.ConfigDict, RMAE | None]:
    """Reads the weights that config.init_from names, unless the run has a checkpoint to resume from.

    Returns:
      The recipe, with the model.position_scale for these weights: if the image size differs from theirs, their position
      tables are interpolated. And the model, or None if the weights are random or come from a checkpoint.

    Raises:
      InteropError: the file cannot be read or does not fit the recipe's model.
    """
    config = copy.deepcopy(config)
    if newest(run) is not None:
        before = recipe.load(run) if (run / "config.json").exists() else {}
        if before.get("init_from"):  # the file is not needed any more, and may have moved
            config.init_from = before.init_from
            if config.model.position_scale == 1.0:  # the recipe does not set it
                config.model.position_scale = before.model.position_scale
        return config, None
    if not config.init_from:
        return config, None
    state = interop.read(config.init_from)
    try:
        model, notes = read_model(state, config, seed=config.seed)
    except interop.InteropError as error:
        raise interop.InteropError(f"{config.init_from}: {error}") from error
    print_once("; ".join((f"weights from {config.init_from}", *notes)))
    config.model.position_scale = model.config.position_scale
    return config, model

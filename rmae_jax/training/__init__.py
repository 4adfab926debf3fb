"""Pre-training: recipe, optimizer, mesh, sharding, step, loop, checkpoints, metrics, sample pictures."""

from rmae_jax.training.checkpoints import CheckpointError
from rmae_jax.training.loop import TrainingError, pretrain
from rmae_jax.training.recipe import ConfigError

__all__ = ["CheckpointError", "ConfigError", "TrainingError", "pretrain"]

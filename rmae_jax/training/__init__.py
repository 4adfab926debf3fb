"""Pre-training: optimiser, mesh, sharding, step, loop, checkpoints, metrics, pictures."""

from rmae_jax.training.checkpoints import CheckpointError
from rmae_jax.training.config import ConfigError
from rmae_jax.training.loop import TrainingError, pretrain
from rmae_jax.training.signals import Interrupted

__all__ = ["CheckpointError", "ConfigError", "Interrupted", "TrainingError", "pretrain"]

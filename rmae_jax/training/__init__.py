"""Pre-training: optimiser, mesh, sharding, hosts, step, loop, checkpoints, metrics, pictures."""

from rmae_jax.training.checkpoints import CheckpointError
from rmae_jax.training.config import ConfigError
from rmae_jax.training.hosts import HostError, connected
from rmae_jax.training.loop import TrainingError, pretrain
from rmae_jax.training.signals import Interrupted

__all__ = [
    "CheckpointError",
    "ConfigError",
    "HostError",
    "Interrupted",
    "TrainingError",
    "connected",
    "pretrain",
]

"""The dataset of the training tests serves here too."""

from training.conftest import config, dataset, photographs

__all__ = ["config", "dataset", "photographs"]

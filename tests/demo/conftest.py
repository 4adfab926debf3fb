"""The dataset of the training tests serves here too."""

from run_fixtures import config, dataset, photographs

__all__ = ["config", "dataset", "photographs"]

"""Judging a checkpoint: region completion, probes on frozen features, fine-tuning."""

from rmae_jax.evaluate.completion import Completion
from rmae_jax.evaluate.data import Data
from rmae_jax.evaluate.finetune import Finetune
from rmae_jax.evaluate.knn import Knn
from rmae_jax.evaluate.linear import Linear
from rmae_jax.evaluate.segmentation import Segmentation

TASKS = {
    "completion": Completion,
    "knn": Knn,
    "linear": Linear,
    "segmentation": Segmentation,
    "finetune": Finetune,
}

__all__ = ["TASKS", "Completion", "Data", "Finetune", "Knn", "Linear", "Segmentation"]

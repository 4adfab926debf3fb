"""Evaluation of a checkpoint: region completion, probes on frozen features, and fine-tuning."""

from rmae_jax.evaluate.completion import CompletionTask
from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.evaluate.finetune import Finetune
from rmae_jax.evaluate.knn import Knn
from rmae_jax.evaluate.linear import LinearProbe
from rmae_jax.evaluate.segmentation import SegmentationProbe

TASKS = {
    "completion": CompletionTask,
    "knn": Knn,
    "linear": LinearProbe,
    "segmentation": SegmentationProbe,
    "finetune": Finetune,
}

__all__ = ["TASKS", "CompletionTask", "EvaluationData", "Finetune", "Knn", "LinearProbe", "SegmentationProbe"]

"""Classification by the k nearest neighbours among frozen features."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64

from rmae_jax.evaluate.evaluation_data import EvaluationData, check_classes
from rmae_jax.evaluate.pooled_features import named_pool, pooled_features
from rmae_jax.model import RMAE

CHUNK = 1024  # images classified at once


@dataclasses.dataclass(frozen=True)
class Knn:
    """Weighted k-NN by cosine similarity (Wu et al. 2018, as in DINO): a neighbour's vote is exp(similarity / T).

    Attributes:
      k: number of neighbours that vote.
      temperature: T.
      pool: the "mean" of the patch tokens, or the "cls" token, which no pre-training loss trains directly.
    """

    k: int = 20
    temperature: float = 0.07
    pool: str = "mean"

    def check(self, data: EvaluationData) -> None:
        """Checks the options, and that the dataset has what the task needs.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a split has no images, or no classes.
        """
        if self.k < 1 or self.temperature <= 0:
            raise ValueError(f"k is {self.k} and temperature is {self.temperature}; both must be positive")
        named_pool(self.pool)
        check_classes(data)

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Classifies `held_out` by its nearest neighbours in `train`.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is corrupt or has no class.
        """
        self.check(data)
        known, labels = pooled_features(model, data.train, self.pool, data.report)
        queries, truth = pooled_features(model, data.held_out, self.pool, data.report)
        chosen = vote(known, labels, queries, min(self.k, len(known)), self.temperature)
        return {"top1": float((chosen == truth).mean()), "num_classes": int(max(labels.max(), truth.max())) + 1}


def vote(
    known: Float[np.ndarray, "known features"],
    labels: Int64[np.ndarray, " known"],
    queries: Float[np.ndarray, "queries features"],
    k: int,
    temperature: float,
) -> Int64[np.ndarray, " queries"]:
    """Returns, for each vector of `queries`, the class with the most votes among its k nearest in `known`."""
    known, queries = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (known, queries))
    chosen = []
    for first in range(0, len(queries), CHUNK):
        similarity = queries[first : first + CHUNK] @ known.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        # Subtracting the largest changes no ranking and keeps the exponential small.
        weights = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((weights - weights.max(axis=1, keepdims=True)) / temperature)
        votes = np.zeros((len(similarity), labels.max() + 1))
        np.add.at(votes, (np.arange(len(similarity))[:, None], labels[nearest]), weights)
        chosen.append(votes.argmax(axis=1))
    return np.concatenate(chosen)

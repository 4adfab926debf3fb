"""k nearest neighbours in the space of frozen features."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64

from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.evaluate.pooled_features import pooled_features
from rmae_jax.model import RMAE

CHUNK = 1024  # photographs compared with all others at once


@dataclasses.dataclass(frozen=True)
class Knn:
    """Weighted k-NN by cosine similarity (Wu et al. 2018, as DINO uses it): a neighbour votes exp(similarity / T).

    Attributes:
      k: neighbours that vote.
      temperature: T.
      pool: "mean" of the patches' tokens, or the "cls" token, which nothing has trained.
    """

    k: int = 20
    temperature: float = 0.07
    pool: str = "mean"

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Classifies `held` by its neighbours in `train`.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is damaged or its class not known.
        """
        if self.k < 1 or self.temperature <= 0:
            raise ValueError(f"k is {self.k} and temperature {self.temperature}; both must be positive")
        known, labels = pooled_features(model, data.train, self.pool, data.report)
        asked, truth = pooled_features(model, data.held, self.pool, data.report)
        chosen = vote(known, labels, asked, min(self.k, len(known)), self.temperature)
        return {"top1": float((chosen == truth).mean()), "num_classes": int(max(labels.max(), truth.max())) + 1}


def vote(
    known: Float[np.ndarray, "known features"],
    labels: Int64[np.ndarray, " known"],
    asked: Float[np.ndarray, "asked features"],
    k: int,
    temperature: float,
) -> Int64[np.ndarray, " asked"]:
    """The class with the most votes among the k nearest, for each of `asked`."""
    known, asked = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (known, asked))
    chosen = []
    for first in range(0, len(asked), CHUNK):
        similarity = asked[first : first + CHUNK] @ known.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        # Less the largest, which changes no order and keeps the exponential small.
        weights = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((weights - weights.max(axis=1, keepdims=True)) / temperature)
        votes = np.zeros((len(similarity), labels.max() + 1))
        np.add.at(votes, (np.arange(len(similarity))[:, None], labels[nearest]), weights)
        chosen.append(votes.argmax(axis=1))
    return np.concatenate(chosen)

"""One vector a photograph, from the frozen encoder."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64

from rmae_jax.data import TFRecordSource, labelled_batches
from rmae_jax.evaluate.evaluation_data import Report
from rmae_jax.evaluate.probe import Choose, Chosen, Tokens, chosen_tokens
from rmae_jax.model import RMAE

BATCH_SIZE = 64


def cls_token(tokens: Tokens) -> Chosen:
    """The cls token alone, (B, 1, D)."""
    return tokens[:, :1]


def mean_token(tokens: Tokens) -> Chosen:
    """The mean of the patches' tokens, (B, 1, D)."""
    return tokens[:, 1:].mean(axis=1, keepdims=True, dtype=jnp.float32)


POOLS = {"cls": cls_token, "mean": mean_token}


def named_pool(name: str) -> Choose:
    """The one of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in POOLS:
        raise ValueError(f"pool is {name!r}; it must be one of {', '.join(POOLS)}")
    return POOLS[name]


def pooled_features(
    model: RMAE, source: TFRecordSource, pool: str, report: Report
) -> tuple[Float[np.ndarray, "photographs features"], Int64[np.ndarray, " photographs"]]:
    """Features and classes of all photographs of a split (centre crops), in its order.

    Args:
      model: frozen.
      source: photographs whose class is known.
      pool: "cls" or "mean".
      report: called with the number of photographs done and that of all.

    Raises:
      ValueError: `pool` is neither.
      DatasetError: a record is damaged or its class not known.
    """
    choose, features, labels = named_pool(pool), [], []
    for batch in labelled_batches(source, image_size=model.config.image_size, batch_size=BATCH_SIZE):
        report(BATCH_SIZE * len(features), len(source))
        tokens = chosen_tokens(model.encoder, jnp.asarray(batch["images"]), choose)
        features.append(np.asarray(tokens[:, 0]))
        labels.append(batch["label"])
    report(len(source), len(source))
    return np.concatenate(features), np.concatenate(labels)

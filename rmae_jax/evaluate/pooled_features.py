"""One feature vector per image, from the frozen encoder."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64

from rmae_jax.data import TFRecordSource, labelled_batches
from rmae_jax.evaluate.evaluation_data import Report
from rmae_jax.evaluate.probe import SelectedTokens, Tokens, TokenSelector, selected_tokens
from rmae_jax.model import RMAE

BATCH_SIZE = 64


def cls_token(tokens: Tokens) -> SelectedTokens:
    """Returns the cls token alone, (B, 1, D)."""
    return tokens[:, :1]


def mean_token(tokens: Tokens) -> SelectedTokens:
    """Returns the mean of the patch tokens, (B, 1, D)."""
    return tokens[:, 1:].mean(axis=1, keepdims=True, dtype=jnp.float32)


POOLS = {"cls": cls_token, "mean": mean_token}


def named_pool(name: str) -> TokenSelector:
    """Returns the pooling function of that name.

    Raises:
      ValueError: there is no such function.
    """
    if name not in POOLS:
        raise ValueError(f"pool is {name!r}; it must be one of {', '.join(POOLS)}")
    return POOLS[name]


def pooled_features(
    model: RMAE, source: TFRecordSource, pool: str, report: Report
) -> tuple[Float[np.ndarray, "photographs features"], Int64[np.ndarray, " photographs"]]:
    """Computes features and classes of all images of a split (centre crops), in the split's order.

    Args:
      model: the model whose encoder computes the features.
      source: images of known class.
      pool: "cls" or "mean".
      report: called with the number of images done and their total.

    Raises:
      ValueError: `pool` is neither "cls" nor "mean".
      DatasetError: a record is corrupt or has no class.
    """
    choose, features, labels = named_pool(pool), [], []
    for batch in labelled_batches(source, image_size=model.config.image_size, batch_size=BATCH_SIZE):
        report(BATCH_SIZE * len(features), len(source))
        tokens = selected_tokens(model.encoder, jnp.asarray(batch["images"]), choose)
        features.append(np.asarray(tokens[:, 0]))
        labels.append(batch["label"])
    report(len(source), len(source))
    return np.concatenate(features), np.concatenate(labels)

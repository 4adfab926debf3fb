"""AdamW with linear warm-up and cosine decay, as for MAE and R-MAE (MAE appendix A.1)."""

import jax
import ml_collections
import optax
from jaxtyping import PyTree

from rmae_jax.training.recipe import Durations


def learning_rate(config: ml_collections.ConfigDict, durations: Durations) -> optax.Schedule:
    """Returns the schedule by step: linear warm-up to base_lr * batch_size / 256, then cosine to 0 at the last step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.base_lr * config.batch_size / 256,
        warmup_steps=durations.warmup_steps,
        decay_steps=durations.steps,
    )


def adamw(config: ml_collections.ConfigDict, durations: Durations) -> optax.GradientTransformation:
    """Returns AdamW, b = (0.9, 0.95), with weight decay on matrices and tokens but not on LayerNorm and biases."""
    return optax.adamw(
        learning_rate(config, durations),
        b1=0.9,
        b2=0.95,
        eps=1e-8,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )


def decay_mask(params: PyTree) -> PyTree:
    """Returns True for each parameter with weight decay: all but biases and LayerNorm's scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)

"""AdamW with a linear warm-up and a cosine decay, as MAE and R-MAE are trained (MAE appendix A.1)."""

import jax
import ml_collections
import optax
from jaxtyping import PyTree

from rmae_jax.training.recipe import Durations


def learning_rate(config: ml_collections.ConfigDict, durations: Durations) -> optax.Schedule:
    """base_lr * batch_size / 256 after the warm-up, cosine to 0 at the last step; changes every step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.base_lr * config.batch_size / 256,
        warmup_steps=durations.warmup_steps,
        decay_steps=durations.steps,
    )


def adamw(config: ml_collections.ConfigDict, durations: Durations) -> optax.GradientTransformation:
    """AdamW, b = (0.9, 0.95), weight decay on matrices and tokens but not on LayerNorm and biases."""
    return optax.adamw(
        learning_rate(config, durations),
        b1=0.9,
        b2=0.95,
        eps=1e-8,
        weight_decay=config.weight_decay,
        mask=decayed,
    )


def decayed(params: PyTree) -> PyTree:
    """True for the parameters that weight decay acts on: all but biases and LayerNorm's scales."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)

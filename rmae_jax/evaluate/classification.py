"""Training durations, learning-rate schedule and top-1 accuracy, shared by linear probing and fine-tuning."""

from collections.abc import Callable

import numpy as np
import optax
from jaxtyping import Array, Int, UInt8

from rmae_jax.data import TFRecordSource, labelled_batches
from rmae_jax.evaluate.evaluation_data import num_steps

Predict = Callable[[UInt8[np.ndarray, "batch size size 3"]], Int[Array, " batch"]]


def durations(epochs: float, warmup_epochs: float, source: TFRecordSource, batch_size: int) -> tuple[int, int]:
    """Returns the number of training steps, and the number of warm-up steps, which is smaller."""
    steps, warmup = (num_steps(some, source, batch_size) for some in (epochs, warmup_epochs))
    return steps, min(warmup, steps - 1)


def learning_rate(base_lr: float, batch_size: int, warmup: int, steps: int) -> optax.Schedule:
    """Returns a linear warm-up from 0 to base_lr * batch_size / 256, followed by cosine decay to 0."""
    return optax.warmup_cosine_decay_schedule(0, base_lr * batch_size / 256, warmup, steps)


def top1(predict: Predict, held_out: TFRecordSource, image_size: int, batch_size: int) -> float:
    """Returns the fraction of images (centre crops) whose class is predicted correctly."""
    right = 0
    for batch in labelled_batches(held_out, image_size=image_size, batch_size=min(batch_size, 256)):
        right += int((np.asarray(predict(batch["images"])) == batch["label"]).sum())
    return right / len(held_out)

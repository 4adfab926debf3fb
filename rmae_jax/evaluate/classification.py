"""What linear probing and fine-tuning share: the learning rate over the steps, and the part of right answers."""

from collections.abc import Callable

import numpy as np
import optax
from jaxtyping import Array, Int, UInt8

from rmae_jax.data import TFRecordSource, labelled_batches
from rmae_jax.evaluate.evaluation_data import steps_of

Predict = Callable[[UInt8[np.ndarray, "batch size size 3"]], Int[Array, " batch"]]


def durations(epochs: float, warmup_epochs: float, source: TFRecordSource, batch_size: int) -> tuple[int, int]:
    """The steps of a training, and those of its warm-up, which is shorter."""
    steps, warmup = (steps_of(some, source, batch_size) for some in (epochs, warmup_epochs))
    return steps, min(warmup, steps - 1)


def learning_rate(base_lr: float, batch_size: int, warmup: int, steps: int) -> optax.Schedule:
    """Linear from 0 to base_lr * batch_size / 256 in the warm-up, then a cosine to 0."""
    return optax.warmup_cosine_decay_schedule(0, base_lr * batch_size / 256, warmup, steps)


def top1(predict: Predict, held: TFRecordSource, image_size: int, batch_size: int) -> float:
    """The part of photographs (centre crops) whose class is predicted."""
    right = 0
    for batch in labelled_batches(held, image_size=image_size, batch_size=min(batch_size, 256)):
        right += int((np.asarray(predict(batch["images"])) == batch["label"]).sum())
    return right / len(held)

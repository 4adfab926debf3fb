"""Linear probing: one linear layer on frozen features says what a photograph shows."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rmae_jax import data
from rmae_jax.evaluate.data import Data, num_classes, steps_of
from rmae_jax.evaluate.pooled import POOLS
from rmae_jax.evaluate.probe import chosen_tokens, train_head
from rmae_jax.model import RMAE


@dataclasses.dataclass(frozen=True)
class Linear:
    """MAE's protocol (appendix A.1): batch normalisation without scale and shift, a linear layer, LARS without weight
    decay, random resized crops and flips.

    Attributes:
      epochs: of the training split.
      warmup_epochs: of them, linear; then a cosine to 0.
      batch_size: images a step; the whole split where that is smaller.
      base_lr: the learning rate is base_lr * batch_size / 256.
      pool: the "cls" token, or the "mean" of the patches' tokens.
    """

    epochs: float = 90.0
    warmup_epochs: float = 10.0
    batch_size: int = 16384
    base_lr: float = 0.1
    pool: str = "cls"

    def __call__(self, model: RMAE, looked_at: Data) -> dict[str, float | int]:
        """Trains the layer on `train`, judges it on centre crops of `held`.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is damaged or its class not known.
        """
        if self.pool not in POOLS:
            raise ValueError(f"pool is {self.pool!r}; it must be one of {', '.join(POOLS)}")
        train, held, size = looked_at.train, looked_at.held, model.config.image_size
        examples = data.LabelledExamples(train, size)
        batch_size, classes = min(self.batch_size, len(train)), num_classes(train, held)
        steps, warmup = (steps_of(epochs, train, batch_size) for epochs in (self.epochs, self.warmup_epochs))
        peak = self.base_lr * batch_size / 256
        schedule = optax.warmup_cosine_decay_schedule(0, peak, min(warmup, steps - 1), steps)
        head = train_head(
            model.encoder,
            data.stream(examples, seed=looked_at.seed, batch_size=batch_size),
            choose=POOLS[self.pool],
            label="label",
            loss=cross_entropy,
            num_classes=classes,
            optimizer=optax.lars(schedule, trust_ratio_mask=(True, False)),  # of kernel and bias
            steps=steps,
            seed=looked_at.seed,
            report=looked_at.report,
        )
        right = 0
        for batch in data.labelled_batches(held, image_size=size, batch_size=min(batch_size, 256)):
            tokens = chosen_tokens(model.encoder, jnp.asarray(batch["images"]), POOLS[self.pool])
            right += int((np.asarray(head(tokens))[:, 0].argmax(axis=-1) == batch["label"]).sum())
        return {"top1": right / len(held), "num_classes": classes}


def cross_entropy(logits: Float[Array, "batch one classes"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    """The mean over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, 0], labels).mean()

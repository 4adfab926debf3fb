"""Linear probing: image classification by one linear layer on frozen features."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from rmae_jax.data import LabelledExamples, stream
from rmae_jax.evaluate.classification import durations, learning_rate, top1
from rmae_jax.evaluate.evaluation_data import EvaluationData, check_classes, check_training, num_classes
from rmae_jax.evaluate.pooled_features import named_pool
from rmae_jax.evaluate.probe import selected_tokens, train_head
from rmae_jax.model import RMAE


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """MAE's linear probing (appendix A.1): batch normalisation without scale and shift, then a linear layer.

    The layer is trained by LARS without weight decay, on random resized crops and flips.

    Attributes:
      epochs: passes over the training split.
      warmup_epochs: epochs of linear warm-up, counted in `epochs`; then the learning rate falls to 0 by a cosine.
      batch_size: images per step; the whole split if it is smaller.
      base_lr: the learning rate is base_lr * batch_size / 256.
      pool: the "cls" token, or the "mean" of the patch tokens.
    """

    epochs: float = 90.0
    warmup_epochs: float = 10.0
    batch_size: int = 16384
    base_lr: float = 0.1
    pool: str = "cls"

    def check(self, data: EvaluationData) -> None:
        """Checks the options, and that the dataset has what the task needs.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a split has no images, or no classes.
        """
        check_training(self.epochs, self.batch_size)
        named_pool(self.pool)
        check_classes(data)

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Trains the layer on `train` and evaluates it on centre crops of `held_out`.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is corrupt or has no class.
        """
        self.check(data)
        choose = named_pool(self.pool)
        train, held_out, size = data.train, data.held_out, model.config.image_size
        examples = LabelledExamples(train, size)
        batch_size, classes = min(self.batch_size, len(train)), num_classes(train, held_out)
        steps, warmup = durations(self.epochs, self.warmup_epochs, train, batch_size)
        schedule = learning_rate(self.base_lr, batch_size, warmup, steps)
        head = train_head(
            model.encoder,
            stream(examples, seed=data.seed, batch_size=batch_size),
            choose=choose,
            label="label",
            loss=cross_entropy,
            num_classes=classes,
            optimizer=optax.lars(schedule, trust_ratio_mask=(True, False)),  # for kernel and bias
            steps=steps,
            seed=data.seed,
            report=data.report,
        )

        def predict(images: UInt8[np.ndarray, "batch size size 3"]) -> Int[Array, " batch"]:
            return head(selected_tokens(model.encoder, jnp.asarray(images), choose))[:, 0].argmax(axis=-1)

        return {"top1": top1(predict, held_out, size, batch_size), "num_classes": classes}


def cross_entropy(logits: Float[Array, "batch one classes"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    """Returns the mean cross-entropy over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits[:, 0], labels).mean()

"""Semantic segmentation by one linear layer on frozen patch tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rmae_jax.data import LabelledExamples, labelled_batches, semantic_source, stream
from rmae_jax.data.examples import check_records
from rmae_jax.evaluate.evaluation_data import EvaluationData, check_training, num_dense_classes, num_steps
from rmae_jax.evaluate.probe import Head, SelectedTokens, Tokens, selected_tokens, train_head
from rmae_jax.model import RMAE
from rmae_jax.segmentation_scores import class_iou, confusion


@dataclasses.dataclass(frozen=True)
class SegmentationProbe:
    """A linear layer on each patch token, whose logits are interpolated bilinearly to the image; mean IoU.

    The layer is trained on random resized crops and evaluated on centre crops. Pixels of unknown class do not count.

    Attributes:
      epochs: passes over the training split.
      batch_size: images per step; the whole split if it is smaller.
      base_lr: AdamW's learning rate is base_lr * batch_size / 256, with cosine decay to 0; there is no weight decay.
    """

    epochs: float = 40.0
    batch_size: int = 64
    base_lr: float = 1e-2

    def check(self, data: EvaluationData) -> None:
        """Checks the options, and that the dataset has what the task needs.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a split has no images, or no classes of pixels.
        """
        check_training(self.epochs, self.batch_size)
        for source in map(semantic_source, (data.train, data.held_out)):
            check_records(source)

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Trains the layer on `train` and evaluates it on `held_out`.

        Returns:
          mean_iou over classes that occur or are predicted, and pixel_accuracy, both fractions; num_classes.

        Raises:
          DatasetError: a split has no classes of pixels, or a record is corrupt.
        """
        self.check(data)
        train, held_out = map(semantic_source, (data.train, data.held_out))
        size = model.config.image_size
        examples = LabelledExamples(train, size, dense=True)
        classes, batch_size = num_dense_classes(train, held_out), min(self.batch_size, len(train))
        steps = num_steps(self.epochs, train, batch_size)
        schedule = optax.cosine_decay_schedule(self.base_lr * batch_size / 256, steps)
        head = train_head(
            model.encoder,
            stream(examples, seed=data.seed, batch_size=batch_size),
            choose=patch_tokens,
            label="classes",
            loss=dense_loss,
            num_classes=classes,
            optimizer=optax.adam(schedule),
            steps=steps,
            seed=data.seed,
            report=data.report,
        )
        counts = np.zeros((classes, classes), np.int64)
        for batch in labelled_batches(held_out, image_size=size, batch_size=batch_size, dense=True):
            tokens = selected_tokens(model.encoder, jnp.asarray(batch["images"]), patch_tokens)
            predicted = np.asarray(_predict(head, tokens, size))
            counts += confusion(predicted, batch["classes"].astype(np.int64) - 1, classes)
        return {
            "mean_iou": float(np.nanmean(class_iou(counts))),
            "pixel_accuracy": float(np.trace(counts) / counts.sum()),
            "num_classes": classes,
        }


def patch_tokens(tokens: Tokens) -> SelectedTokens:
    """Returns the patch tokens, without the cls token."""
    return tokens[:, 1:]


def dense_logits(
    logits: Float[Array, "batch patches classes"], size: int
) -> Float[Array, "batch {size} {size} classes"]:
    """Interpolates the patches' logits to the pixels of a square image, bilinearly between the patches' centres."""
    batch, patches, classes = logits.shape
    side = round(patches**0.5)
    return jax.image.resize(logits.reshape(batch, side, side, classes), (batch, size, size, classes), "linear")


def dense_loss(
    logits: Float[Array, "batch patches classes"], classes: Int[Array, "batch size size"]
) -> Float[Array, ""]:
    """Returns the mean cross-entropy over pixels of known class; `classes` stores 1 + class, 0 for unknown."""
    dense = dense_logits(logits, classes.shape[1])
    losses = optax.softmax_cross_entropy_with_integer_labels(dense, jnp.maximum(classes - 1, 0))
    known = classes > 0
    return (losses * known).sum() / jnp.maximum(known.sum(), 1)


def _predict(head: Head, tokens: SelectedTokens, size: int) -> Int[Array, "batch {size} {size}"]:
    return dense_logits(head(tokens), size).argmax(axis=-1)

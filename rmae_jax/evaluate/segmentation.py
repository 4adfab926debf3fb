"""Semantic segmentation from frozen features: one linear layer on the patches' tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from rmae_jax.data import LabelledExamples, labelled_batches, only_semantic, stream
from rmae_jax.evaluate.evaluation_data import EvaluationData, num_dense_classes, steps_of
from rmae_jax.evaluate.probe import Chosen, Head, Tokens, chosen_tokens, train_head
from rmae_jax.model import RMAE
from rmae_jax.segmentation_scores import class_iou, confusion


@dataclasses.dataclass(frozen=True)
class SegmentationProbe:
    """A linear layer on each patch's token, whose logits are laid bilinearly over the image; mean IoU.

    Trained on random resized crops, judged on centre crops. Pixels whose class is not known do not count.

    Attributes:
      epochs: of the training split.
      batch_size: images a step.
      base_lr: of AdamW without weight decay; the learning rate is base_lr * batch_size / 256, falling by a cosine.
    """

    epochs: float = 40.0
    batch_size: int = 64
    base_lr: float = 1e-2

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Trains the layer on `train`, judges it on `held`.

        Returns:
          mean_iou over classes that occur or were predicted, pixel_accuracy, num_classes; fractions.

        Raises:
          DatasetError: the splits do not say the class of each pixel, or are damaged.
        """
        train, held = map(only_semantic, (data.train, data.held))
        size = model.config.image_size
        examples = LabelledExamples(train, size, dense=True)
        classes, batch_size = num_dense_classes(train, held), min(self.batch_size, len(train))
        steps = steps_of(self.epochs, train, batch_size)
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
        for batch in labelled_batches(held, image_size=size, batch_size=batch_size, dense=True):
            tokens = chosen_tokens(model.encoder, jnp.asarray(batch["images"]), patch_tokens)
            predicted = np.asarray(_predict(head, tokens, size))
            counts += confusion(predicted, batch["classes"].astype(np.int64) - 1, classes)
        return {
            "mean_iou": float(np.nanmean(class_iou(counts))),
            "pixel_accuracy": float(np.trace(counts) / counts.sum()),
            "num_classes": classes,
        }


def patch_tokens(tokens: Tokens) -> Chosen:
    """Without the cls token."""
    return tokens[:, 1:]


def dense_logits(
    logits: Float[Array, "batch patches classes"], size: int
) -> Float[Array, "batch {size} {size} classes"]:
    """Patches' logits over the pixels of a square image, bilinearly between the patches' centres."""
    batch, patches, classes = logits.shape
    side = round(patches**0.5)
    return jax.image.resize(logits.reshape(batch, side, side, classes), (batch, size, size, classes), "linear")


def dense_loss(
    logits: Float[Array, "batch patches classes"], classes: Int[Array, "batch size size"]
) -> Float[Array, ""]:
    """Cross-entropy, averaged over the pixels whose class is known; `classes` has 1 + class, 0 for unknown."""
    dense = dense_logits(logits, classes.shape[1])
    losses = optax.softmax_cross_entropy_with_integer_labels(dense, jnp.maximum(classes - 1, 0))
    known = classes > 0
    return (losses * known).sum() / jnp.maximum(known.sum(), 1)


def _predict(head: Head, tokens: Chosen, size: int) -> Int[Array, "batch {size} {size}"]:
    return dense_logits(head(tokens), size).argmax(axis=-1)

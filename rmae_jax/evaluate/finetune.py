"""Fine-tuning for classification: trains all weights, by MAE's end-to-end recipe."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from rmae_jax.data import LabelledExamples, stream
from rmae_jax.evaluate.classification import durations, learning_rate, top1
from rmae_jax.evaluate.classifier import Classifier, is_decayed, layer_scales
from rmae_jax.evaluate.evaluation_data import EvaluationData, check_classes, check_training, num_classes
from rmae_jax.evaluate.mixup import draw_weights
from rmae_jax.model import RMAE, normalize


@dataclasses.dataclass(frozen=True)
class Finetune:
    """MAE's recipe for ViT-B (appendix A.1, "end-to-end fine-tuning") without RandAugment and random erasing.

    Images are augmented by random resized crops, flips, mixup and CutMix.

    Attributes:
      epochs: passes over the training split.
      warmup_epochs: epochs of linear warm-up, counted in `epochs`; then the learning rate falls to 0 by a cosine.
      batch_size: images per step; the whole split if it is smaller.
      base_lr: the head's learning rate is base_lr * batch_size / 256.
      layer_decay: factor of the learning rate for each layer below the head; MAE: 0.65 (B), 0.75 (L, H).
      weight_decay: AdamW's weight decay, applied to matrices.
      drop_path: probability of dropping a branch of the last block; decreases linearly to 0 at the first block.
      mixup: alpha of mixup; 0 disables it.
      cutmix: alpha of CutMix; 0 disables it.
      label_smoothing: share of the target that is spread evenly over all classes.
    """

    epochs: float = 100.0
    warmup_epochs: float = 5.0
    batch_size: int = 1024
    base_lr: float = 5e-4
    layer_decay: float = 0.65
    weight_decay: float = 0.05
    drop_path: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    label_smoothing: float = 0.1

    def check(self, data: EvaluationData) -> None:
        """Checks the options, and that the dataset has what the task needs.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a split has no images, or no classes.
        """
        check_training(self.epochs, self.batch_size)
        if not 0 <= self.drop_path < 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"drop_path is {self.drop_path} and layer_decay is {self.layer_decay}; "
                "drop_path must be in [0, 1) and layer_decay in (0, 1]"
            )
        check_classes(data)

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Fine-tunes on `train` and evaluates on centre crops of `held_out`; `model` itself is not changed.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is corrupt or has no class.
        """
        self.check(data)
        train, held_out, size, seed = data.train, data.held_out, model.config.image_size, data.seed
        batch_size, classes = min(self.batch_size, len(train)), num_classes(train, held_out)
        batches = stream(LabelledExamples(train, size), seed=seed, batch_size=batch_size)
        classifier = Classifier(model.encoder, classes, self.drop_path, rngs=nnx.Rngs(seed))
        graphdef, params = nnx.split(classifier)
        params = nnx.to_pure_dict(params)
        steps, warmup = durations(self.epochs, self.warmup_epochs, train, batch_size)
        optimizer = self.optimizer(params, model.config.depth, steps, warmup, batch_size)

        @jax.jit
        def step(params, opt_state, number, images, labels, weights):
            def objective(params):
                key = jax.random.fold_in(jax.random.key(seed), number)
                logits = nnx.merge(graphdef, params)(mix(normalize(images), weights), key)
                target = mix(self.targets(labels, classes), weights.mean())
                return optax.softmax_cross_entropy(logits, target).mean()

            updates, opt_state = optimizer.update(jax.grad(objective)(params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        opt_state = optimizer.init(params)
        for done in range(steps):
            data.report(done, steps)
            batch = next(batches)
            weights = draw_weights(np.random.default_rng((seed, done)), size, self.mixup, self.cutmix)
            params, opt_state = step(params, opt_state, done, batch["images"], batch["label"].astype(np.int32), weights)
        data.report(steps, steps)
        tuned = nnx.merge(graphdef, params)
        return {"top1": top1(partial(_predict, tuned), held_out, size, batch_size), "num_classes": classes}

    def optimizer(
        self, params: dict, depth: int, steps: int, warmup: int, batch_size: int
    ) -> optax.GradientTransformation:
        """Returns AdamW with layer-wise learning-rate decay."""
        schedule = learning_rate(self.base_lr, batch_size, warmup, steps)
        scales = layer_scales(params, depth, self.layer_decay)
        return optax.chain(
            optax.adamw(schedule, weight_decay=self.weight_decay, mask=is_decayed),
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales)),
        )

    def targets(self, labels: Int[Array, " batch"], num_classes: int) -> Float[Array, "batch {num_classes}"]:
        """Returns the smoothed target probabilities of the classes."""
        return optax.smooth_labels(jax.nn.one_hot(labels, num_classes), self.label_smoothing)


def mix(x: Float[Array, "batch *rest"], weights: Float[Array, "*weights"]) -> Float[Array, "batch *rest"]:
    """Mixes each entry with its partner in the reversed batch; `weights` is the share of the entry itself."""
    weights = weights[..., None] if jnp.ndim(weights) else weights
    return weights * x + (1 - weights) * x[::-1]


@jax.jit
def _predict(classifier: Classifier, images: UInt8[Array, "batch size size 3"]) -> Int[Array, " batch"]:
    return classifier(normalize(images)).argmax(axis=-1)

"""Fine-tuning for classification: all weights are trained, as MAE's end-to-end recipe does."""

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
from rmae_jax.evaluate.evaluation_data import EvaluationData, num_classes
from rmae_jax.evaluate.mixup import draw_weights
from rmae_jax.model import RMAE, normalize


@dataclasses.dataclass(frozen=True)
class Finetune:
    """MAE's recipe for ViT-B (appendix A.1, "end-to-end fine-tuning"), but for RandAugment and random erasing: random
    resized crops, flips, mixup and CutMix are the augmentation.

    Attributes:
      epochs: of the training split.
      warmup_epochs: of them, linear; then a cosine to 0.
      batch_size: images a step; the whole split where that is smaller.
      base_lr: the head's learning rate is base_lr * batch_size / 256.
      layer_decay: what the learning rate is multiplied by for each layer below; MAE: 0.65 (B), 0.75 (L, H).
      weight_decay: of AdamW, on matrices.
      drop_path: probability that the last block is left out; less for those before, none for the first.
      mixup: alpha; 0 for none.
      cutmix: alpha; 0 for none.
      label_smoothing: what the target gives to all classes alike.
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

    def __call__(self, model: RMAE, data: EvaluationData) -> dict[str, float | int]:
        """Trains on `train`, judges on centre crops of `held`; the model itself stays as it is.

        Returns:
          top1, a fraction, and num_classes.

        Raises:
          ValueError: an option is out of range.
          DatasetError: a record is damaged or its class not known.
        """
        if not 0 <= self.drop_path < 1 or not 0 < self.layer_decay <= 1:
            raise ValueError(f"drop_path is {self.drop_path}, layer_decay {self.layer_decay}; both are fractions")
        train, held, size, seed = data.train, data.held, model.config.image_size, data.seed
        batch_size, classes = min(self.batch_size, len(train)), num_classes(train, held)
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
        return {"top1": top1(partial(_predict, tuned), held, size, batch_size), "num_classes": classes}

    def optimizer(
        self, params: dict, depth: int, steps: int, warmup: int, batch_size: int
    ) -> optax.GradientTransformation:
        """AdamW whose learning rate falls from layer to layer."""
        schedule = learning_rate(self.base_lr, batch_size, warmup, steps)
        scales = layer_scales(params, depth, self.layer_decay)
        return optax.chain(
            optax.adamw(schedule, weight_decay=self.weight_decay, mask=is_decayed),
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales)),
        )

    def targets(self, labels: Int[Array, " batch"], num_classes: int) -> Float[Array, "batch {num_classes}"]:
        """What the classes' probabilities should be, smoothed."""
        return optax.smooth_labels(jax.nn.one_hot(labels, num_classes), self.label_smoothing)


def mix(x: Float[Array, "batch *rest"], weights: Float[Array, "*weights"]) -> Float[Array, "batch *rest"]:
    """Each entry mixed with its partner, the batch read backwards; `weights` is the part that is kept."""
    weights = weights[..., None] if jnp.ndim(weights) else weights
    return weights * x + (1 - weights) * x[::-1]


@jax.jit
def _predict(classifier: Classifier, images: UInt8[Array, "batch size size 3"]) -> Int[Array, " batch"]:
    return classifier(normalize(images)).argmax(axis=-1)

"""A linear layer on a frozen encoder's tokens, and its training."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from rmae_jax.data.examples import Example
from rmae_jax.model import normalize
from rmae_jax.model.encoder import PixelEncoder

MOMENTUM, EPSILON = 0.1, 1e-6  # of the batch normalisation

Tokens = Float[Array, "batch tokens features"]
SelectedTokens = Float[Array, "batch chosen features"]  # the tokens that are classified
Logits = Float[Array, "batch chosen classes"]


class Head(NamedTuple):
    """Batch normalisation without scale and shift, then a linear layer (MAE, appendix A.1, "linear probing").

    Attributes:
      kernel, bias: parameters of the linear layer.
      mean, variance: running statistics of the tokens.
    """

    kernel: Float[Array, "features classes"]
    bias: Float[Array, " classes"]
    mean: Float[Array, " features"]
    variance: Float[Array, " features"]

    def __call__(self, tokens: SelectedTokens) -> Logits:
        """Computes the logits, with the running statistics."""
        return (tokens - self.mean) * jax.lax.rsqrt(self.variance + EPSILON) @ self.kernel + self.bias


TokenSelector = Callable[[Tokens], SelectedTokens]
Loss = Callable[[Logits, Int[Array, "..."]], Float[Array, ""]]


@partial(jax.jit, static_argnames="choose")
def selected_tokens(
    encoder: PixelEncoder, images: UInt8[Array, "batch height width 3"], choose: TokenSelector
) -> SelectedTokens:
    """Computes the tokens of images with the frozen encoder; returns those that `choose` selects, in float32."""
    return choose(encoder(normalize(images))).astype(jnp.float32)


def train_head(
    encoder: PixelEncoder,
    batches: Iterator[Example],
    *,
    choose: TokenSelector,
    label: str,
    loss: Loss,
    num_classes: int,
    optimizer: optax.GradientTransformation,
    steps: int,
    seed: int,
    report: Callable[[int, int], None],
) -> Head:
    """Trains a head on the tokens of a frozen encoder.

    Args:
      encoder: the encoder, which is not trained.
      batches: batches with "images" and labels.
      choose: selects the tokens to classify.
      label: the key of the labels in a batch.
      loss: the loss of logits and labels.
      num_classes: number of classes.
      optimizer: the optimiser of kernel and bias.
      steps: number of training steps.
      seed: the seed of the head's initial weights.
      report: called with the number of steps done and their total.
    """
    width = encoder.width
    kernel = 0.01 * jax.random.truncated_normal(jax.random.key(seed), -2, 2, (width, num_classes))
    head = Head(kernel, jnp.zeros(num_classes), jnp.zeros(width), jnp.ones(width))

    @jax.jit
    def step(head: Head, opt_state: optax.OptState, encoder: PixelEncoder, images: Array, labels: Array):
        tokens = selected_tokens(encoder, images, choose)
        mean, variance = tokens.mean(axis=(0, 1)), tokens.var(axis=(0, 1))

        def objective(weights: tuple[Array, Array]) -> Array:
            return loss(Head(*weights, mean, variance)(tokens), labels)

        weights = head.kernel, head.bias
        updates, opt_state = optimizer.update(jax.grad(objective)(weights), opt_state, weights)
        count = tokens.shape[0] * tokens.shape[1]
        unbiased = variance * count / max(1, count - 1)
        running = [old + MOMENTUM * (new - old) for old, new in ((head.mean, mean), (head.variance, unbiased))]
        return Head(*optax.apply_updates(weights, updates), *running), opt_state

    opt_state = optimizer.init((head.kernel, head.bias))
    for done in range(steps):
        report(done, steps)
        batch = next(batches)
        head, opt_state = step(head, opt_state, encoder, batch["images"], batch[label].astype(np.int32))
    report(steps, steps)
    return head

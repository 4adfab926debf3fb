"""The pixel loss (MAE section 4) and the region loss (R-MAE section 3), both over masked patches."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LOSSES = ("cross_entropy", "l2")


def pixel_loss(
    predicted: Float[Array, "batch masked pixels"], patches: Float[Array, "batch masked pixels"], norm_pix_loss: bool
) -> Float[Array, ""]:
    """Computes the mean squared error over masked patches (MAE section 4, "reconstruction target").

    Args:
      predicted: the pixel decoder's output.
      patches: the true pixels.
      norm_pix_loss: whether each true patch is normalised by its own mean and unbiased variance.
    """
    return jnp.mean((predicted.astype(jnp.float32) - pixel_targets(patches, norm_pix_loss)) ** 2)


def pixel_targets(
    patches: Float[Array, "batch patches pixels"], norm_pix_loss: bool
) -> Float[Array, "batch patches pixels"]:
    """Returns the pixel decoder's targets: each patch, with `norm_pix_loss` normalised by its own mean and variance."""
    if not norm_pix_loss:
        return patches
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return (patches - mean) / jnp.sqrt(variance + 1e-6)


def region_loss(
    predicted: Float[Array, "batch regions masked pixels"],
    targets: Float[Array, "batch regions masked pixels"],
    kind: str,
    background_weight: float,
) -> Float[Array, ""]:
    """Computes the loss of predicted region maps, averaged over pixels, regions and masked patches.

    Background pixels have weight `background_weight`, foreground pixels 1. The weights are not renormalised.

    Args:
      predicted: logits for "cross_entropy", the maps' values for "l2".
      targets: the true maps, 0 and 1.
      kind: "cross_entropy" (sigmoid binary cross-entropy) or "l2" (squared error, the ablation).
      background_weight: the weight of pixels outside of the region.
    """
    if kind == "cross_entropy":
        return cross_entropy(predicted, targets, background_weight)
    return jnp.mean((predicted.astype(jnp.float32) - targets) ** 2 * _weights(targets, background_weight))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def cross_entropy(
    logits: Float[Array, "*batch pixels"], targets: Float[Array, "*batch pixels"], background_weight: float
) -> Float[Array, ""]:
    """Computes the weighted mean of -y log sigmoid(x) - (1 - y) log sigmoid(-x), for targets y of 0 and 1.

    That is log(1 + exp(z)), z = x or -x. The derivative is computed together with the value: both need exp(-|z|).
    """
    return _cross_entropy_forward(logits, targets, background_weight)[0]


def _cross_entropy_forward(logits: Array, targets: Array, background_weight: float) -> tuple[Array, Array]:
    sign, weights = jnp.where(targets > 0.5, -1, 1), _weights(targets, background_weight)
    z = sign * logits.astype(jnp.float32)
    exponential = jnp.exp(-jnp.abs(z))
    losses = jnp.maximum(z, 0) + jnp.log1p(exponential)
    sigmoid = jnp.where(z > 0, 1, exponential) / (1 + exponential)
    derivative = (sign * weights * sigmoid / logits.size).astype(logits.dtype)
    # The barrier keeps the compiler from recomputing the derivative for each matrix product that reads it.
    return jnp.mean(losses * weights), jax.lax.optimization_barrier(derivative)


def _cross_entropy_backward(background_weight: float, derivative: Array, d: Array) -> tuple[Array, None]:
    return (d * derivative).astype(derivative.dtype), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def _weights(targets: Array, background_weight: float) -> Array:
    return jnp.where(targets > 0.5, 1.0, background_weight)


def region_probability(predicted: Float[Array, "*batch pixels"], kind: str) -> Float[Array, "*batch pixels"]:
    """Returns the probability that a pixel is in the region, from the prediction of a model trained with `kind`."""
    return jnp.clip(predicted, 0, 1) if kind == "l2" else jax.nn.sigmoid(predicted)

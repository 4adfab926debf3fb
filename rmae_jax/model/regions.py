"""Region maps as what the region branch reads, and how its predictions are judged (R-MAE section 3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rmae_jax.model.patches import patchify

LOSSES = ("cross_entropy", "l2")


def region_patches(
    regions: Float[Array, "batch regions height width"], patch_size: int
) -> Float[Array, "batch patches regions pixels"]:
    """Cuts the K maps of each image into patches; patches come first, so that a mask takes them for all K."""
    return patchify(regions[..., None], patch_size).swapaxes(1, 2)


def region_loss(
    predicted: Float[Array, "batch regions masked pixels"],
    targets: Float[Array, "batch masked regions pixels"],
    kind: str,
    background_weight: float,
) -> Float[Array, ""]:
    """How far completed maps are from the truth, averaged over pixels, regions and masked patches.

    Background pixels weigh `background_weight`, foreground pixels 1, and the weights are not renormalised.

    Args:
      predicted: logits for "cross_entropy", the maps' values for "l2".
      targets: the maps, 0 and 1.
      kind: "cross_entropy" (sigmoid binary cross-entropy) or "l2" (squared error, the ablation).
      background_weight: of pixels outside of the region.
    """
    targets, predicted = targets.swapaxes(1, 2), predicted.astype(jnp.float32)
    losses = (predicted - targets) ** 2 if kind == "l2" else cross_entropy(predicted, targets)
    return jnp.mean(losses * jnp.where(targets > 0.5, 1.0, background_weight))


@jax.custom_vjp
def cross_entropy(
    logits: Float[Array, "*batch pixels"], targets: Float[Array, "*batch pixels"]
) -> Float[Array, "*batch pixels"]:
    """-y log sigmoid(x) - (1 - y) log sigmoid(-x), for targets y of 0 and 1: log(1 + exp(z)), z = x or -x."""
    z = _away(logits, targets)
    return jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z)))


def _away(x: Array, targets: Array) -> Array:
    return jnp.where(targets > 0.5, -x, x)


def _cross_entropy_forward(logits: Array, targets: Array) -> tuple[Array, tuple[Array, Array]]:
    return cross_entropy(logits, targets), (logits, targets)


def _cross_entropy_backward(kept: tuple[Array, Array], d: Array) -> tuple[Array, None]:
    logits, targets = kept
    return d * _away(jax.nn.sigmoid(_away(logits, targets)), targets), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def region_probability(predicted: Float[Array, "*batch pixels"], kind: str) -> Float[Array, "*batch pixels"]:
    """The probability that a pixel belongs to the region, from a prediction trained with the loss `kind`."""
    return jnp.clip(predicted, 0, 1) if kind == "l2" else jax.nn.sigmoid(predicted)

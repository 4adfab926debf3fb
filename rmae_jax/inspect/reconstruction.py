"""Photographs reconstructed from their visible patches."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from rmae_jax.completion import GRAY
from rmae_jax.inspect.figures import panels, show, styled
from rmae_jax.inspect.region_completion import completed
from rmae_jax.model import RMAE
from rmae_jax.photographs import Photograph


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A reconstructed photograph.

    Attributes:
      hidden: the pixels of masked patches.
      pixels: in 0..1; visible patches are the photograph's own.
    """

    hidden: Bool[np.ndarray, "height width"]
    pixels: Float[np.ndarray, "height width 3"]


def reconstruct(
    model: RMAE, photograph: Photograph, *, mask_ratio: float | None = None, seed: int = 0
) -> Reconstruction:
    """Reconstructs a photograph from its visible patches, as colours: see `rmae_jax.complete`.

    Args:
      model: of the "mae" or "rmae" objective.
      photograph: any.
      mask_ratio: the part of the patches that is hidden; by default the model's.
      seed: decides which.

    Raises:
      ValueError: the model has no pixel decoder, or the ratio leaves no patch visible or none hidden.
    """
    if model.config.objective == "rae":
        raise ValueError('the "rae" objective has no pixel decoder')
    made, _ = completed(model, photograph, mask_ratio, seed)
    return Reconstruction(made.hidden[0], made.pixels[0])


@styled
def draw_reconstruction(photograph: Photograph, made: Reconstruction) -> Figure:
    """Draws the photograph, what is visible of it, and the reconstruction."""
    height, width = made.hidden.shape
    figure, ((whole, visible, whole_again),) = panels(1, 3, height / width)
    show(whole, photograph.image, "photograph")
    show(visible, np.where(made.hidden[..., None], GRAY, photograph.image / 255), "visible")
    show(whole_again, made.pixels, "reconstruction")
    return figure

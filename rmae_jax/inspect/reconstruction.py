"""Reconstruction of photographs from their visible patches."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from rmae_jax.completion import GRAY
from rmae_jax.inspect.figures import panels, show, styled
from rmae_jax.inspect.region_completion import run_model
from rmae_jax.model import RMAE
from rmae_jax.photographs import Photograph


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """A reconstructed photograph.

    Attributes:
      hidden: the pixels of masked patches.
      pixels: colours in 0..1; visible patches are the photograph's own.
    """

    hidden: Bool[np.ndarray, "height width"]
    pixels: Float[np.ndarray, "height width 3"]


def reconstruct(
    model: RMAE, photograph: Photograph, *, mask_ratio: float | None = None, seed: int = 0
) -> Reconstruction:
    """Reconstructs the colours of a photograph from its visible patches; see `rmae_jax.complete`.

    Args:
      model: a model of the "mae" or "rmae" objective.
      photograph: the photograph to reconstruct.
      mask_ratio: fraction of the patches that is masked; by default the model's.
      seed: decides which patches are masked.

    Raises:
      ValueError: the model has no pixel decoder, or the ratio leaves no patch visible or none masked.
    """
    if model.config.objective == "rae":
        raise ValueError('the "rae" objective has no pixel decoder')
    made, _ = run_model(model, photograph, mask_ratio, seed)
    return Reconstruction(made.hidden[0], made.pixels[0])


@styled
def draw_reconstruction(photograph: Photograph, made: Reconstruction) -> Figure:
    """Draws the photograph, its visible patches, and the reconstruction."""
    height, width = made.hidden.shape
    figure, ((whole, visible, reconstructed),) = panels(1, 3, height / width)
    show(whole, photograph.image, "photograph")
    show(visible, np.where(made.hidden[..., None], GRAY, photograph.image / 255), "visible")
    show(reconstructed, made.pixels, "reconstruction")
    return figure

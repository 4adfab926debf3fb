"""Regions of photographs, completed from their visible patches."""

import dataclasses

import jax
import ml_collections
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from rmae_jax.completion import GRAY, Completion, candidate_regions, complete, repeated
from rmae_jax.inspect.figures import ACCENTS, panels, show, styled
from rmae_jax.model import RMAE, Mask, draw_masks
from rmae_jax.photographs import Photograph
from rmae_jax.segmentation_scores import iou

Regions = Bool[np.ndarray, "regions height width"]


@dataclasses.dataclass(frozen=True)
class RegionCompletion:
    """Regions of one photograph and what a model makes of their visible patches, the largest first.

    Attributes:
      regions: the truth.
      hidden: the pixels of patches that are masked in the maps.
      completed: probabilities that a pixel is in the region; visible patches as they are, 0 and 1.
      iou: intersection over union of truth and completed > 0.5 in hidden patches; nan where neither has a pixel there.
    """

    regions: Regions
    hidden: Bool[np.ndarray, "height width"]
    completed: Float[np.ndarray, "regions height width"]
    iou: Float[np.ndarray, " regions"]


def choose_regions(photograph: Photograph, most: int, seed: int) -> Regions:
    """Up to `most` different regions of all scales that cover 1 to 90 % of a photograph, drawn by seed.

    Returns:
      (n, H, W), the largest first; n is 0 where there is none.
    """
    layers = photograph.layers
    different = {(layers[one.layer] == one.label).tobytes(): one for one in candidate_regions(layers)}
    found = list(different.values())
    drawn = [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:most]]
    drawn.sort(key=lambda region: -region.area)
    return np.array([layers[layer] == label for layer, label, _ in drawn], bool).reshape(-1, *layers.shape[1:])


def complete_regions(
    model: RMAE, photograph: Photograph, *, mask_ratio: float | None = None, seed: int = 0
) -> RegionCompletion:
    """Completes regions of a photograph; the truth are its Felzenszwalb-Huttenlocher regions.

    Args:
      model: of the "rae" or "rmae" objective.
      photograph: any.
      mask_ratio: the part of the patches that is hidden, of photograph and regions; by default the model's own two.
      seed: decides which patches are hidden and which regions are drawn.

    Returns:
      Up to num_regions regions; none where the photograph has none.

    Raises:
      ValueError: the model has no region branch, or the ratio leaves no patch visible or none hidden.
    """
    if model.config.objective == "mae":
        raise ValueError('the "mae" objective has no region branch')
    made, regions = completed(model, photograph, mask_ratio, seed)
    hidden, predicted = made.regions_hidden[0], made.regions[0, : len(regions)]
    agreement = [iou(one > 0.5, truth, hidden) for one, truth in zip(predicted, regions, strict=True)]
    return RegionCompletion(regions, hidden, predicted, np.array(agreement, np.float64))


def completed(model: RMAE, photograph: Photograph, mask_ratio: float | None, seed: int) -> tuple[Completion, Regions]:
    """Both branches' view of one photograph, a batch of one, and the different regions among those it was asked for."""
    regions = choose_regions(photograph, model.config.num_regions, seed)
    maps = None if model.config.objective == "mae" else repeated(regions, model.config.num_regions)[None]
    return complete(model, photograph.image[None], maps, *masks(model, photograph, mask_ratio, seed)), regions


def masks(model: RMAE, photograph: Photograph, mask_ratio: float | None, seed: int) -> tuple[Mask, Mask]:
    """The masks of one photograph and of its regions, drawn as in pre-training.

    Raises:
      ValueError: the ratio leaves no patch visible, or none masked.
    """
    config = model.config
    if mask_ratio is not None:
        ratios = {"mask_ratio": mask_ratio, "region_mask_ratio": mask_ratio}
        config = ml_collections.FrozenConfigDict(config.to_dict() | ratios)
    height, width = photograph.image.shape[:2]
    num_patches = (height // config.patch_size) * (width // config.patch_size)
    return draw_masks(jax.random.key(seed), config, 1, num_patches)


@styled
def draw_region_completion(photograph: Photograph, made: RegionCompletion, most: int = 3) -> Figure:
    """Draws a row for each of the first regions: its outline, its visible part, the completed map, and the truth.

    Raises:
      ValueError: there are no regions.
    """
    if not len(made.regions):
        raise ValueError(f"{photograph.name}: no regions of 1 to 90 % of the picture")
    shown = min(most, len(made.regions))
    height, width = made.hidden.shape
    figure, axes = panels(shown, 4, height / width, text=0.36)
    titles = ("region", "visible", "completed", "truth")
    for row, (truth, one, agreement) in enumerate(
        zip(made.regions[:shown], made.completed[:shown], made.iou[:shown], strict=True)
    ):
        pictures = (photograph.image, np.where(made.hidden, GRAY, truth), one, truth.astype(float))
        notes = ("", "", f"IoU {agreement:.2f}", "")
        for axis, picture, title, note in zip(axes[row], pictures, titles, notes, strict=True):
            show(axis, picture, title if row == 0 else "", note)
        axes[row, 0].contour(truth, [0.5], colors=ACCENTS[0], linewidths=1.5)
    return figure

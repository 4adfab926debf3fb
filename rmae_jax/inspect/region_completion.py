"""Completion of a photograph's regions from their visible patches."""

import dataclasses

import jax
import ml_collections
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure

from rmae_jax.completion import GRAY, Completion, candidate_regions, complete, repeat_regions
from rmae_jax.inspect.figures import ACCENTS, panels, show, styled
from rmae_jax.model import RMAE, Mask, draw_masks
from rmae_jax.photographs import Photograph
from rmae_jax.segmentation_scores import iou

Regions = Bool[np.ndarray, "regions height width"]


@dataclasses.dataclass(frozen=True)
class RegionCompletion:
    """Regions of one photograph, and a model's completion of their visible patches; the largest region first.

    Attributes:
      regions: the true regions.
      hidden: the pixels of patches that are masked in the region maps.
      completed: probability that a pixel is in the region; in visible patches, the true 0 or 1.
      iou: intersection over union of truth and completed > 0.5 in masked patches; nan if neither has a pixel there.
    """

    regions: Regions
    hidden: Bool[np.ndarray, "height width"]
    completed: Float[np.ndarray, "regions height width"]
    iou: Float[np.ndarray, " regions"]


def choose_regions(photograph: Photograph, limit: int, seed: int) -> Regions:
    """Draws up to `limit` different regions, of all scales, that cover 1 to 90 % of a photograph.

    Returns:
      The regions, (n, H, W), the largest first; n is 0 if there is none.
    """
    layers = photograph.layers
    different = {(layers[one.layer] == one.label).tobytes(): one for one in candidate_regions(layers)}
    found = list(different.values())
    drawn = [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:limit]]
    drawn.sort(key=lambda region: -region.area)
    return np.array([layers[layer] == label for layer, label, _ in drawn], bool).reshape(-1, *layers.shape[1:])


def complete_regions(
    model: RMAE, photograph: Photograph, *, mask_ratio: float | None = None, seed: int = 0
) -> RegionCompletion:
    """Completes regions of a photograph; its Felzenszwalb-Huttenlocher regions are the truth.

    Args:
      model: a model of the "rae" or "rmae" objective.
      photograph: the photograph of the regions.
      mask_ratio: fraction of the patches of photograph and regions that is masked; by default the model's two ratios.
      seed: decides which patches are masked and which regions are drawn.

    Returns:
      Up to num_regions regions; none if the photograph has none.

    Raises:
      ValueError: the model has no region branch, or the ratio leaves no patch visible or none masked.
    """
    if model.config.objective == "mae":
        raise ValueError('the "mae" objective has no region branch')
    made, regions = run_model(model, photograph, mask_ratio, seed)
    hidden, predicted = made.regions_hidden[0], made.regions[0, : len(regions)]
    agreement = [iou(one > 0.5, truth, hidden) for one, truth in zip(predicted, regions, strict=True)]
    return RegionCompletion(regions, hidden, predicted, np.array(agreement, np.float64))


def run_model(model: RMAE, photograph: Photograph, mask_ratio: float | None, seed: int) -> tuple[Completion, Regions]:
    """Runs both branches on one photograph, a batch of one; also returns its regions, without the repeated ones."""
    regions = choose_regions(photograph, model.config.num_regions, seed)
    maps = None if model.config.objective == "mae" else repeat_regions(regions, model.config.num_regions)[None]
    return complete(model, photograph.image[None], maps, *masks(model, photograph, mask_ratio, seed)), regions


def masks(model: RMAE, photograph: Photograph, mask_ratio: float | None, seed: int) -> tuple[Mask, Mask]:
    """Draws the masks of one photograph and of its regions, as in pre-training.

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
def draw_region_completion(photograph: Photograph, made: RegionCompletion, limit: int = 3) -> Figure:
    """Draws a row for each of the first regions: its outline, its visible part, the completed map, and the truth.

    Raises:
      ValueError: there are no regions.
    """
    if not len(made.regions):
        raise ValueError(f"{photograph.name}: no regions cover 1 to 90 % of the picture")
    shown = min(limit, len(made.regions))
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

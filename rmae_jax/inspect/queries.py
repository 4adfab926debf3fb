"""The region branch's queries of regions, and their similarity."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from scipy import ndimage

from rmae_jax.feature_extraction import as_input
from rmae_jax.inspect.features import cosine
from rmae_jax.inspect.figures import ACCENTS, PANEL, show, styled
from rmae_jax.inspect.region_completion import Regions, masks
from rmae_jax.model import RMAE, Mask
from rmae_jax.photographs import Photograph

MAX_DRAWN = len(ACCENTS)


def why_no_queries(model: RMAE) -> str | None:
    """Returns why a model has no region queries, or None if it has them."""
    if model.config.objective == "mae":
        return 'the "mae" objective has no region branch'
    if model.config.region_variant != "length":
        return f'the "{model.config.region_variant}" region variant has no queries'
    return None


def region_queries(
    model: RMAE, photograph: Photograph, regions: Regions, *, mask_ratio: float | None = None, seed: int = 0
) -> Float[np.ndarray, "regions features"]:
    """Computes the query that the region branch builds from each region's visible patches.

    A query depends on its region's map alone: it encodes place and shape, not what the photograph shows there.

    Args:
      model: a model with region queries: the region variant "length".
      photograph: the photograph of the regions.
      regions: regions of the photograph; see `complete_regions`.
      mask_ratio: fraction of the patches that is masked; by default the model's.
      seed: decides which patches are masked.

    Raises:
      ValueError: the model has no queries, or the ratio leaves no patch visible or none masked.
    """
    if reason := why_no_queries(model):
        raise ValueError(reason)
    model = model.at_size(*photograph.image.shape[:2])
    maps = jnp.asarray(regions[None], jnp.float32)
    return np.asarray(
        _queries(model, as_input(photograph.image[None]), maps, *masks(model, photograph, mask_ratio, seed))
    )


@jax.jit
def _queries(
    model: RMAE,
    images: Float[Array, "1 height width 3"],
    maps: Float[Array, "1 regions height width"],
    mask: Mask,
    region_mask: Mask,
) -> Float[Array, "regions features"]:
    # Under jit, the rest of the model is not computed.
    return model(images, maps, mask, region_mask).queries[0].astype(jnp.float32)


def query_similarity(queries: Float[np.ndarray, "regions features"]) -> Float[np.ndarray, "regions regions"]:
    """Returns the cosine similarity of every pair of queries."""
    return cosine(queries, queries)


@styled
def draw_query_similarity(
    photograph: Photograph, regions: Regions, similarity: Float[np.ndarray, "regions regions"]
) -> Figure:
    """Draws the photograph with the outlines of up to eight regions, numbered, and the matrix of their similarity."""
    count = min(len(regions), MAX_DRAWN)
    regions, similarity = regions[:count], similarity[:count, :count]
    height, width = photograph.image.shape[:2]
    figure = Figure(figsize=(4 * PANEL, 2 * PANEL * max(1.0, height / width) + 0.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, photograph.image, "regions")
    left.set(xticks=[], yticks=[])
    left.spines[:].set_visible(False)
    for number, (region, colour) in enumerate(zip(regions, ACCENTS, strict=False), start=1):
        left.contour(region, [0.5], colors=colour, linewidths=1.5)
        row, column = _inside(region)
        box = {"boxstyle": "round,pad=0.15", "facecolor": colour, "edgecolor": "none"}
        left.text(column, row, str(number), color="white", fontsize=8, ha="center", va="center", bbox=box)
    show(right, similarity, "similarity of queries", vmin=similarity.min(), cmap="viridis")
    middle = (similarity.min() + 1) / 2
    for (i, j), value in np.ndenumerate(similarity):
        shade = "black" if value > middle else "white"
        right.text(j, i, f"{value:.2f}".replace("0.", "."), color=shade, fontsize=6.5, ha="center", va="center")
    numbers = [str(number) for number in range(1, count + 1)]
    right.set(xticks=range(count), xticklabels=numbers, yticks=range(count), yticklabels=numbers)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    return figure


def _inside(region: np.ndarray) -> tuple[int, int]:
    """Returns the pixel of a region that is farthest from its boundary: the place of the region's number."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row), int(column)

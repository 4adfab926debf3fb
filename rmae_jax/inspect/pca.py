"""Principal components of patch features, and their rendering as colours."""

import dataclasses

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from rmae_jax.inspect.features import FeatureMaps, PatchFeatures
from rmae_jax.inspect.figures import panels, show, styled
from rmae_jax.photographs import Photograph

COMPONENTS = 3  # red, green, blue
RANGE = (1, 99)  # percentiles that become 0 and 1, so that a few outliers do not wash out all other patches


@dataclasses.dataclass(frozen=True)
class PrincipalComponents:
    """Three principal components of patch features.

    Attributes:
      mean: mean feature of all patches.
      components: orthogonal unit vectors, by decreasing variance.
      explained: fraction of the total variance along each component.
    """

    mean: Float[np.ndarray, " features"]
    components: Float[np.ndarray, "3 features"]
    explained: Float[np.ndarray, "3"]

    def project(self, patches: PatchFeatures) -> Float[np.ndarray, "rows columns 3"]:
        """Returns the coordinates of patches along the components."""
        return (patches - self.mean) @ self.components.T


def principal_components(patches: FeatureMaps) -> PrincipalComponents:
    """Fits the components to the patches of all images together.

    The data do not determine the sign of a component; its entry of largest magnitude is made positive.

    Raises:
      ValueError: there are fewer than four patches or fewer than three features.
    """
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in patches]).astype(np.float64)
    if min(len(rows) - 1, rows.shape[1]) < COMPONENTS:
        raise ValueError(f"too few images for PCA: {len(rows)} patches in total, at least {COMPONENTS + 1} are needed")
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    components, variances = directions[:COMPONENTS], sizes**2
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
    components = components * np.where(largest < 0, -1, 1)
    return PrincipalComponents(mean, components, variances[:COMPONENTS] / max(variances.sum(), 1e-300))


def pca_colours(patches: FeatureMaps, fitted: PrincipalComponents | None = None) -> list[Float[np.ndarray, "_ _ 3"]]:
    """Maps the first three principal components of each image's patches to red, green and blue.

    Patches of similar colour have similar features, within an image and across images.

    Args:
      patches: patch features of all images.
      fitted: components to use; by default those of `patches`.

    Returns:
      Colours in 0..1: percentiles 1 and 99 of each component over all images become 0 and 1.

    Raises:
      ValueError: there are too few patches.
    """
    fitted = principal_components(patches) if fitted is None else fitted
    coordinates = [fitted.project(one) for one in patches]
    low, high = np.percentile(np.concatenate([one.reshape(-1, COMPONENTS) for one in coordinates]), RANGE, axis=0)
    return [np.clip((one - low) / np.maximum(high - low, 1e-12), 0, 1) for one in coordinates]


@styled
def draw_pca(photograph: Photograph, colours: Float[np.ndarray, "rows columns 3"]) -> Figure:
    """Draws a photograph next to the colours of its patches."""
    height, width = photograph.image.shape[:2]
    figure, ((left, right),) = panels(1, 2, height / width)
    show(left, photograph.image, "photograph")
    show(
        right,
        colours,
        "PCA",
    )
    return figure

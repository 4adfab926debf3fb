"""The directions in which patch features vary most, as colours."""

import dataclasses

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from rmae_jax.inspect.features import OfSeveral, PatchFeatures
from rmae_jax.inspect.figures import panels, show, styled
from rmae_jax.photographs import Photograph

COMPONENTS = 3  # red, green, blue
RANGE = (1, 99)  # percentiles of all patches that become 0 and 1: a few odd patches do not pale all others


@dataclasses.dataclass(frozen=True)
class PrincipalComponents:
    """Three principal components of patch features.

    Attributes:
      mean: of all patches.
      components: orthogonal unit vectors, the one of largest variance first.
      explained: the part of the total variance that lies along each.
    """

    mean: Float[np.ndarray, " features"]
    components: Float[np.ndarray, "3 features"]
    explained: Float[np.ndarray, "3"]

    def project(self, patches: PatchFeatures) -> Float[np.ndarray, "rows columns 3"]:
        """Coordinates of patches along the components."""
        return (patches - self.mean) @ self.components.T


def principal_components(patches: OfSeveral) -> PrincipalComponents:
    """Fits the components to the patches of all images together.

    A component's sign is not determined by the data; here the entry of largest size is positive.

    Raises:
      ValueError: three directions need at least four patches and three features.
    """
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in patches]).astype(np.float64)
    if min(len(rows) - 1, rows.shape[1]) < COMPONENTS:
        raise ValueError(f"too few images for PCA: {len(rows)} patches in all, and {COMPONENTS + 1} are needed")
    mean = rows.mean(axis=0)
    _, sizes, directions = np.linalg.svd(rows - mean, full_matrices=False)
    components, variances = directions[:COMPONENTS], sizes**2
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
    components = components * np.where(largest < 0, -1, 1)
    return PrincipalComponents(mean, components, variances[:COMPONENTS] / max(variances.sum(), 1e-300))


def pca_colours(patches: OfSeveral, fitted: PrincipalComponents | None = None) -> list[Float[np.ndarray, "_ _ 3"]]:
    """The first three principal components of each image's patches as red, green and blue.

    Patches of like colour have like features, in one image and across images.

    Args:
      patches: of all images.
      fitted: components to use; by default those of these patches.

    Returns:
      In 0..1: percentiles 1 and 99 of each component over all images are 0 and 1.

    Raises:
      ValueError: there are too few patches.
    """
    fitted = principal_components(patches) if fitted is None else fitted
    coordinates = [fitted.project(one) for one in patches]
    low, high = np.percentile(np.concatenate([one.reshape(-1, COMPONENTS) for one in coordinates]), RANGE, axis=0)
    return [np.clip((one - low) / np.maximum(high - low, 1e-12), 0, 1) for one in coordinates]


@styled
def draw_pca(photograph: Photograph, colours: Float[np.ndarray, "rows columns 3"]) -> Figure:
    """Draws a photograph beside the colours of its patches."""
    height, width = photograph.image.shape[:2]
    figure, ((left, right),) = panels(1, 2, height / width)
    show(left, photograph.image, "photograph")
    show(
        right,
        colours,
        "PCA",
    )
    return figure

"""How well a map of labels agrees with the truth."""

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

BOUNDARY_TOLERANCE = 0.0075  # of the image's diagonal, as is usual for boundary F


def iou(
    predicted: Bool[np.ndarray, "*pixels"],
    truth: Bool[np.ndarray, "*pixels"],
    where: Bool[np.ndarray, "*pixels"] | None = None,
) -> float:
    """Returns the intersection over union (Jaccard index) of two regions; nan if both are empty.

    Args:
      predicted: a region.
      truth: the region that it should be.
      where: pixels that count; by default all.
    """
    if where is not None:
        predicted, truth = predicted & where, truth & where
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else np.nan


def boundary(region: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels of a region that touch (by a side) a pixel outside of it; the image's edge is no boundary."""
    inside = ndimage.binary_erosion(region, border_value=1)
    return region & ~inside


def boundary_f(
    predicted: Bool[np.ndarray, "height width"],
    truth: Bool[np.ndarray, "height width"],
    where: Bool[np.ndarray, "height width"],
) -> float:
    """The boundary F measure: the harmonic mean of precision and recall of boundary pixels.

    A boundary pixel is right if one of the other boundary lies within 0.75 % of the image's diagonal of it (DAVIS
    benchmark, Perazzi et al. 2016, section 4), at least one pixel.

    Args:
      predicted: a region.
      truth: the region that it should be.
      where: boundary pixels outside of it are not asked about, but may be what one inside is matched with.

    Returns:
      0 to 1; nan where neither has a boundary pixel in `where`.
    """
    tolerance = max(1.0, BOUNDARY_TOLERANCE * float(np.hypot(*truth.shape)))
    ours, theirs = boundary(predicted), boundary(truth)
    if not (ours & where).any() and not (theirs & where).any():
        return np.nan
    precision = _matched(ours & where, theirs, tolerance)
    recall = _matched(theirs & where, ours, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _matched(
    pixels: Bool[np.ndarray, "height width"], others: Bool[np.ndarray, "height width"], tolerance: float
) -> float:
    """The fraction of `pixels` that have one of `others` near; 1 where there is nothing to match."""
    if not pixels.any():
        return 1.0
    if not others.any():
        return 0.0
    return float((ndimage.distance_transform_edt(~others)[pixels] <= tolerance).mean())


def confusion(
    predicted: Integer[np.ndarray, "*pixels"], truth: Integer[np.ndarray, "*pixels"], num_classes: int
) -> Int[np.ndarray, "{num_classes} {num_classes}"]:
    """How many pixels of each true class (rows) got each class (columns); pixels of negative truth are left out."""
    known = truth >= 0
    pairs = truth[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(counts: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, " classes"]:
    """Intersection over union of each class; nan of classes that neither occur nor were predicted."""
    right = np.diag(counts).astype(float)
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

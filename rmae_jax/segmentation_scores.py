"""Segmentation scores: intersection over union, boundary F, and the confusion matrix of classes."""

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage

BOUNDARY_TOLERANCE = 0.0075  # fraction of the image's diagonal, the usual choice for boundary F


def iou(
    predicted: Bool[np.ndarray, "*pixels"],
    truth: Bool[np.ndarray, "*pixels"],
    where: Bool[np.ndarray, "*pixels"] | None = None,
) -> float:
    """Returns the intersection over union (Jaccard index) of two regions; nan if both are empty.

    Args:
      predicted: the predicted region.
      truth: the true region.
      where: the pixels to compare; by default all.
    """
    if where is not None:
        predicted, truth = predicted & where, truth & where
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else np.nan


def boundary(region: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Returns the pixels of a region that share a side with a pixel outside of it; the image's edge is no boundary."""
    inside = ndimage.binary_erosion(region, border_value=1)
    return region & ~inside


def boundary_f(
    predicted: Bool[np.ndarray, "height width"],
    truth: Bool[np.ndarray, "height width"],
    where: Bool[np.ndarray, "height width"],
) -> float:
    """Computes the boundary F measure: the harmonic mean of precision and recall of boundary pixels.

    A boundary pixel is correct if a pixel of the other boundary is at most 0.75 % of the image's diagonal away (DAVIS
    benchmark, Perazzi et al. 2016, section 4), or one pixel if that is more.

    Args:
      predicted: the predicted region.
      truth: the true region.
      where: the boundary pixels to score; pixels outside of it can still be matched by pixels inside.

    Returns:
      0 to 1; nan if neither region has a boundary pixel in `where`.
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
    """Returns the fraction of `pixels` within `tolerance` of one of `others`; 1 if there are no `pixels`."""
    if not pixels.any():
        return 1.0
    if not others.any():
        return 0.0
    return float((ndimage.distance_transform_edt(~others)[pixels] <= tolerance).mean())


def confusion(
    predicted: Integer[np.ndarray, "*pixels"], truth: Integer[np.ndarray, "*pixels"], num_classes: int
) -> Int[np.ndarray, "{num_classes} {num_classes}"]:
    """Counts pixels by true class (rows) and predicted class (columns); pixels of negative truth are skipped."""
    known = truth >= 0
    pairs = truth[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(counts: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, " classes"]:
    """Computes the intersection over union of each class; nan for classes that neither occur nor are predicted."""
    right = np.diag(counts).astype(float)
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

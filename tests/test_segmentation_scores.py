"""Scores against scikit-learn and against their definitions, pixel by pixel."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix, jaccard_score

from rmae_jax.segmentation_scores import boundary_f, class_iou, confusion, iou


def blobs(seed: int, size: int = 60) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 4)
    return noise > np.quantile(noise, 0.6)


def edge_pixels(region: np.ndarray) -> np.ndarray:
    """Pixels inside with a neighbour outside, one by one."""
    found = []
    for y, x in np.argwhere(region):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [(v, u) for v, u in around if 0 <= v < region.shape[0] and 0 <= u < region.shape[1]]
        if not all(region[place] for place in around):
            found.append((y, x))
    return np.array(found).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_scikit_learn_s(seed):
    predicted, truth = blobs(seed), blobs(seed + 100)
    assert iou(predicted, truth) == pytest.approx(jaccard_score(truth.ravel(), predicted.ravel()))


def test_iou_of_rows():
    one, other = np.zeros((2, 4, 4), bool)
    one[:2], other[1:3] = True, True
    assert iou(one, other) == pytest.approx(1 / 3)
    assert iou(one, one) == 1


@pytest.mark.parametrize("seed", range(5))
def test_boundary_f_by_its_definition(seed):
    predicted, truth, where = blobs(seed), blobs(seed + 1), blobs(seed + 2)
    ours, theirs = edge_pixels(predicted), edge_pixels(truth)
    near = cdist(ours, theirs) <= max(1, 0.0075 * np.hypot(60, 60))
    precision = near.any(axis=1)[where[tuple(ours.T)]].mean()
    recall = near.any(axis=0)[where[tuple(theirs.T)]].mean()
    assert boundary_f(predicted, truth, where) == pytest.approx(2 * precision * recall / (precision + recall))


def test_boundary_f_at_its_ends():
    truth, everywhere = blobs(0), np.ones((60, 60), bool)
    empty = np.zeros_like(truth)
    assert boundary_f(truth, truth, everywhere) == 1
    assert boundary_f(empty, truth, everywhere) == 0
    assert boundary_f(everywhere, truth, everywhere) == 0  # the image's edge is no boundary
    assert np.isnan(boundary_f(empty, everywhere, everywhere))
    assert np.isnan(iou(empty, empty))
    square = np.zeros((60, 60), bool)
    square[20:40, 20:40] = True
    assert boundary_f(np.roll(square, 1, axis=1), square, everywhere) == 1  # within the tolerance, one pixel
    assert boundary_f(np.roll(square, 3, axis=1), square, everywhere) < 0.6


def test_confusion_and_class_iou_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, 5, (4, 30, 30)), rng.integers(0, 6, (4, 30, 30))
    known = truth >= 0
    counts = confusion(predicted, truth, 7)
    assert np.array_equal(counts, confusion_matrix(truth[known], predicted[known], labels=range(7)))
    expected = jaccard_score(truth[known], predicted[known], labels=range(6), average=None)
    assert np.allclose(class_iou(counts)[:6], expected)
    assert np.isnan(class_iou(counts)[6])

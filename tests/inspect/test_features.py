"""PCA, similarity and neighbours, against NumPy and scikit-learn."""

import numpy as np
import pytest

from rmae_jax import features
from rmae_jax.inspect import (
    image_features,
    nearest_images,
    nearest_patches,
    patch_features,
    patch_similarity,
    pca_colours,
    principal_components,
    query_similarity,
    region_queries,
)
from rmae_jax.inspect.region_completion import choose_regions

PATCHES = [np.random.default_rng(i).normal(size=(3, 4 + i, 7)).astype(np.float32) * np.arange(1, 8) for i in range(3)]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_features_are_those_of_the_encoder(model, photographs):
    found = patch_features(model, photographs[2].image)
    tokens = np.asarray(features(model, photographs[2].image[None]))[0]
    assert found.shape == (8, 4, 48)
    assert np.allclose(found[5, 2], tokens[1 + 5 * 4 + 2], atol=1e-6)
    assert np.allclose(image_features([found])[0], tokens[1:].mean(axis=0), atol=1e-6)


def test_components_are_the_eigenvectors_of_the_covariance():
    rows = np.concatenate([one.reshape(-1, 7) for one in PATCHES])
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    fitted = principal_components(PATCHES)
    assert np.allclose(np.abs(np.sum(fitted.components * vectors[:, ::-1][:, :3].T, axis=1)), 1, atol=1e-6)
    assert np.allclose(fitted.explained, values[::-1][:3] / values.sum())
    assert (fitted.components[np.arange(3), np.abs(fitted.components).argmax(axis=1)] > 0).all()


def test_components_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows = np.concatenate([one.reshape(-1, 7) for one in PATCHES])
    theirs, fitted = decomposition.PCA(3).fit(rows), principal_components(PATCHES)
    found = np.concatenate([fitted.project(one).reshape(-1, 3) for one in PATCHES])
    signs = np.sign(np.sum(theirs.components_ * fitted.components, axis=1))
    assert np.allclose(found, theirs.transform(rows) * signs, atol=1e-4)


def test_colours_do_not_depend_on_the_order_of_the_images():
    colours = pca_colours(PATCHES)
    assert [one.shape for one in colours] == [(3, 4, 3), (3, 5, 3), (3, 6, 3)]
    assert all(one.min() >= 0 and one.max() <= 1 for one in colours)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(colours, pca_colours(PATCHES[::-1])[::-1], strict=True))
    with pytest.raises(ValueError, match="too few images for PCA: 3 patches in total, at least 4 are needed"):
        pca_colours([PATCHES[0][:1, :3]])


def test_similarity_is_the_cosine():
    found = patch_similarity(PATCHES[0], (1, 2))
    for place in np.ndindex(3, 4):
        assert found[place] == pytest.approx(cosine(PATCHES[0][place], PATCHES[0][1, 2]), abs=1e-6)
    with pytest.raises(ValueError, match=r"no patch \(3, 0\): the image has 3 rows and 4 columns"):
        patch_similarity(PATCHES[0], (3, 0))


def test_nearest_images_by_hand():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [-1, 0]], np.float32)
    nearest, similarity = nearest_images(vectors, count=2)
    assert nearest.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert similarity[0, 0] == pytest.approx(cosine(vectors[0], vectors[1]))
    with pytest.raises(ValueError, match="at least two images"):
        nearest_images(vectors[:1])


def test_nearest_patches_are_those_of_a_search():
    found = nearest_patches(PATCHES, 1, (2, 3), count=5)
    all_others = [
        (cosine(PATCHES[i][r, c], PATCHES[1][2, 3]), i, r, c) for i in (0, 2) for r, c in np.ndindex(3, 4 + i)
    ]
    expected = sorted(all_others, reverse=True)[:5]
    assert found.places.tolist() == [list(place) for _, *place in expected]
    assert np.allclose(found.similarity, [value for value, *_ in expected], atol=1e-6)
    assert len(nearest_patches([PATCHES[0], PATCHES[1][:1, :2]], 0, (0, 0)).places) == 2


def test_queries_do_not_depend_on_the_photograph(model, photographs):
    regions = choose_regions(photographs[1], 4, seed=0)
    queries = region_queries(model, photographs[1], regions)
    assert queries.shape == (len(regions), 16) and len(regions) > 1
    similarity = query_similarity(queries)
    assert similarity[0, 1] == pytest.approx(cosine(queries[0], queries[1]), abs=1e-5)
    assert np.allclose(region_queries(model, photographs[1], regions[::-1]), queries[::-1], atol=1e-5)

"""Probes on frozen features, against scikit-learn on the same features."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from toy import toy_model

import rmae_jax
from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.evaluate import EvaluationData, Knn, LinearProbe, SegmentationProbe
from rmae_jax.evaluate.evaluation_data import ignore_progress
from rmae_jax.evaluate.knn import vote
from rmae_jax.evaluate.pooled_features import pooled_features
from rmae_jax.evaluate.segmentation import dense_logits


@pytest.fixture(scope="module")
def data(labelled):
    return EvaluationData(TFRecordSource(labelled, "train"), TFRecordSource(labelled, "validation"))


@pytest.fixture(scope="module")
def dense(labelled):
    return EvaluationData(*(TFRecordSource(labelled, split, ["semantic"]) for split in ("train", "validation")))


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_pooled_features_are_those_of_the_model(data, pool):
    features, labels = pooled_features(toy_model(), data.held_out, pool, ignore_progress)
    images = np.stack([_center(data.held_out, record) for record in range(len(data.held_out))])
    tokens = rmae_jax.features(toy_model(), images)
    expected = tokens[:, 0] if pool == "cls" else tokens[:, 1:].mean(axis=1)
    assert np.allclose(features, expected, atol=1e-5)
    assert labels.tolist() == [data.held_out[record].label for record in range(len(labels))]


def _center(source, record):
    from rmae_jax.data import center_examples

    return center_examples(source, [record], image_size=32)["images"][0]


def test_votes_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    known, labels, asked = rng.normal(size=(200, 16)), rng.integers(0, 5, 200), rng.normal(size=(90, 16))
    reference = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = reference.fit(known, labels).predict(asked)
    assert np.array_equal(vote(known, labels, asked, 20, 0.07), expected)


def test_colours_are_told_apart(data):
    results = Knn(k=5)(toy_model(), data)
    assert results["num_classes"] == 3
    assert results["top1"] > 0.9
    assert Knn(k=5)(toy_model(), data) == results


def test_a_linear_probe_is_as_good_as_logistic_regression(data):
    train, held_out = (
        pooled_features(toy_model(), source, "mean", ignore_progress) for source in (data.train, data.held_out)
    )
    scale = train[0].std(axis=0)
    reference = LogisticRegression(max_iter=500).fit(train[0] / scale, train[1]).score(held_out[0] / scale, held_out[1])
    found = LinearProbe(epochs=60.0, warmup_epochs=5.0, batch_size=12, base_lr=100.0, pool="mean")(toy_model(), data)
    assert reference > 0.9
    assert found["top1"] >= reference - 0.1


def test_segmentation_of_squares(dense):
    results = SegmentationProbe(epochs=60.0, batch_size=12, base_lr=0.2)(toy_model(), dense)
    assert results["num_classes"] == 4
    assert results["mean_iou"] > 0.5  # of patches of 8 pixels
    assert results["pixel_accuracy"] > 0.8


def test_logits_lie_as_pytorch_lays_them():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(2, 16, 3)).astype(np.float32)
    maps = torch.tensor(logits.reshape(2, 4, 4, 3)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(maps, size=(32, 32), mode="bilinear").permute(0, 2, 3, 1)
    assert np.allclose(dense_logits(jnp.asarray(logits), 32), expected.numpy(), atol=1e-5)


def test_what_is_missing_is_said(data, photographs_without):
    without = TFRecordSource(photographs_without)
    with pytest.raises(DatasetError, match="has no pixel classes; prepare it with --regions=semantic"):
        SegmentationProbe()(toy_model(), EvaluationData(without, without))
    with pytest.raises(DatasetError, match="has no classes of images; prepare it from class folders with --classes"):
        Knn()(toy_model(), EvaluationData(without, without))
    with pytest.raises(ValueError, match="pool is 'max'; it must be one of cls, mean"):
        Knn(pool="max")(toy_model(), data)
    with pytest.raises(ValueError, match="k is 0"):
        Knn(k=0)(toy_model(), data)

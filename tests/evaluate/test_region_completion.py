"""Region completion, against what is known of it beforehand and against a loop over pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from toy import reconstruct, toy_model

from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data.examples import center_view, decode
from rmae_jax.evaluate import CompletionTask, EvaluationData, completion
from rmae_jax.evaluate.completion import VISIBLE_RATIOS
from rmae_jax.model import Mask, normalize


@pytest.fixture(scope="module")
def held_out(labelled):
    return TFRecordSource(labelled, "validation", ["label_maps"])


def test_scores_are_those_of_a_plain_loop(held_out):
    """One region a photograph, so that nothing is drawn but the order of the patches."""
    results, model = CompletionTask()(toy_model(), EvaluationData(held_out, held_out, seed=3)), toy_model()
    for ratio in VISIBLE_RATIOS:
        ious = {"model": [], "nearest": [], "constant": []}
        for record in range(len(held_out)):
            image, layers = center_view(*decode(held_out, record, True), 32)
            truth = layers[0] == 1
            order = np.random.default_rng((3, record)).permutation(16).astype(np.int32)
            mask = Mask(jnp.asarray(order[None]), max(1, round(ratio * 16)))
            hidden = np.asarray(mask.masked).reshape(4, 4).repeat(8, axis=0).repeat(8, axis=1)
            if not truth[~hidden].any() or not truth[hidden].any():
                continue
            maps = np.broadcast_to(truth.astype(np.float32), (1, 5, 32, 32))
            logits = reconstruct(model, normalize(jnp.asarray(image[None])), jnp.asarray(maps), mask, mask).regions
            logits = np.asarray(logits)[0, 0].reshape(4, 4, 8, 8).swapaxes(1, 2).reshape(32, 32)
            places = np.argwhere(~hidden)
            answers = {name: np.zeros((32, 32), bool) for name in ious}
            for y, x in np.argwhere(hidden):
                distances = ((places - (y, x)) ** 2).sum(axis=1)
                nearest = {bool(truth[tuple(place)]) for place in places[distances == distances.min()]}
                # Of visible pixels that are equally near, any may be taken.
                answers["nearest"][y, x] = truth[y, x] if len(nearest) > 1 else nearest.pop()
                answers["model"][y, x] = logits[y, x] > 0
                answers["constant"][y, x] = True
            for name, answer in answers.items():
                both, either = answer & truth & hidden, (answer | truth) & hidden
                ious[name].append(both.sum() / either.sum())
        found = results[f"{ratio:.0%}"]
        assert found["num_regions"] == len(ious["model"])
        for name, expected in ious.items():
            assert found[f"{name}_iou"] == pytest.approx(np.mean(expected), abs=0.05 if name == "nearest" else 1e-6)


def test_more_patches_make_the_nearest_one_better(held_out):
    results = CompletionTask()(toy_model(), EvaluationData(held_out, held_out))
    scores = [results[f"{ratio:.0%}"]["nearest_iou"] for ratio in VISIBLE_RATIOS]
    assert scores[0] < scores[-1]
    assert CompletionTask(limit=4)(toy_model(), EvaluationData(held_out, held_out))["50%"]["num_regions"] <= 4


def test_variants_are_asked_alike(held_out, monkeypatch):
    monkeypatch.setattr(completion, "VISIBLE_RATIOS", (0.25,))
    for changes in ({"region_variant": "channel"}, {"objective": "rae"}):
        assert (
            0
            <= CompletionTask(limit=3)(toy_model(**changes), EvaluationData(held_out, held_out))["25%"]["model_iou"]
            <= 1
        )


def test_models_and_data_without_regions(held_out, photographs_without):
    with pytest.raises(ValueError, match='the "mae" objective has none'):
        CompletionTask()(toy_model(objective="mae"), EvaluationData(held_out, held_out))
    without = TFRecordSource(photographs_without)
    with pytest.raises(DatasetError, match="split 'train' has no region maps"):
        CompletionTask()(toy_model(), EvaluationData(without, without))

"""From marks to masks to the completed region."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import reconstruct, toy_config, toy_model

from rmae_jax.demo import segmenter
from rmae_jax.demo.segmenter import Click, Segmenter, image_mask, region_map, region_under, toggle
from rmae_jax.model import RMAE, Mask, normalize, region_probability
from rmae_jax.model.patches import unpatchify

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
CLICKS = (Click(6, True), Click(5, False), Click(10, True))
LENGTH = {"region_decoder_depth": 2}  # reads the cls token too
BATCH = {"objective": "rae", "region_variant": "batch", "region_loss": "l2"}
CHANNEL = {"objective": "rae", "region_variant": "channel"}


def by_hand(model) -> tuple[np.ndarray, np.ndarray, Mask, Mask]:
    """What `complete` is given for CLICKS, 4 of 16 patches visible: images, maps and both masks."""
    order = [6, 5, 10, *(patch for patch in np.random.default_rng(3).permutation(16) if patch not in (5, 6, 10))]
    permutation = jnp.asarray([order], jnp.int32)
    visible = np.zeros((32, 32), np.float32)
    visible[8:16, 16:24] = visible[16:24, 16:24] = 1  # patches 6 and 10 of 4 x 4
    copies = 5 if model.config.region_variant == "channel" else 1
    return IMAGE[None], np.stack([visible] * copies)[None], Mask(permutation, 4), Mask(permutation, 3)


@pytest.mark.parametrize("changes", [LENGTH, BATCH, CHANNEL])
def test_the_completed_region_is_what_the_model_reconstructs(changes):
    model = toy_model(**changes)
    images, maps, mask, region_mask = by_hand(model)
    made = Segmenter(model).complete(IMAGE, CLICKS, 0.75, seed=3)
    predicted = reconstruct(model, normalize(jnp.asarray(images)), maps, mask, region_mask).regions[0, 0]
    expected = np.array(unpatchify(region_probability(predicted, model.config.region_loss), (4, 4), 8)[..., 0])
    expected[8:16, 8:24], expected[16:24, 16:24] = maps[0, 0, 8:16, 8:24], 1
    assert np.allclose(made.probability, expected, atol=1e-5)
    assert np.array_equal(made.hidden, np.asarray(mask.masked).reshape(4, 4).repeat(8, 0).repeat(8, 1))
    assert expected.std() > 0.05


def test_a_model_without_a_region_branch_is_refused():
    model = nnx.eval_shape(lambda: RMAE(toy_config(objective="mae"), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="no region branch"):
        Segmenter(model)


@pytest.mark.parametrize("clicks", [(), (Click(3, False),)])
def test_nothing_is_completed_without_a_patch_inside(clicks):
    made = Segmenter(toy_model(**LENGTH)).complete(IMAGE, clicks, 0.75, seed=0)
    assert made.probability is None
    assert made.hidden.mean() == 0.75


def test_everything_may_be_visible_and_everything_marked():
    segmenter = Segmenter(toy_model(**LENGTH))
    assert not segmenter.complete(IMAGE, CLICKS, 0.0, seed=0).hidden.any()
    everywhere = [Click(patch, patch % 3 == 0) for patch in range(16)]
    made = segmenter.complete(IMAGE, everywhere, 0.9, seed=0)
    assert not made.hidden.any()
    assert np.array_equal(made.probability, region_map(everywhere, 32, 8))


@pytest.mark.parametrize("hidden_share", [0.0, 0.05, 0.5, 0.75, 0.9])
def test_marked_patches_are_visible_and_the_share_is_kept(hidden_share):
    rng = np.random.default_rng(0)
    for count in (0, 1, 5, 40):
        clicks = [Click(int(patch), bool(patch % 2)) for patch in rng.permutation(100)[:count]]
        mask = image_mask(clicks, 100, hidden_share, seed=count)
        assert mask.num_visible == max(round(100 * (1 - hidden_share)), count)
        assert sorted(mask.permutation[0].tolist()) == list(range(100))
        assert mask.permutation[0, :count].tolist() == [click.patch for click in clicks]
    assert image_mask((), 4, 0.9, 0).num_visible == 1


def test_other_patches_stay_visible_when_a_visible_one_is_marked():
    before = image_mask((), 100, 0.75, seed=1)
    marked = int(before.permutation[0, 7])
    after = image_mask([Click(marked, True)], 100, 0.75, seed=1)
    assert np.array_equal(before.masked, after.masked)
    assert not np.array_equal(before.masked, image_mask((), 100, 0.75, seed=2).masked)


def test_marks_are_set_changed_and_taken_away():
    clicks = toggle((), 3, True, 16)
    clicks = toggle(clicks, 5, False, 16)
    assert clicks == (Click(3, True), Click(5, False))
    assert toggle(clicks, 5, False, 16) == (Click(3, True),)
    assert toggle(clicks, 3, False, 16) == (Click(5, False), Click(3, False))
    assert toggle(toggle(clicks, 3, True, 16), 5, False, 16) == ()


@pytest.mark.parametrize("patch", [-1, 16, 10**9])
def test_marks_outside_of_the_photograph_change_nothing(patch):
    assert toggle(CLICKS, patch, True, 16) == CLICKS


def test_the_region_below_a_patch_is_the_one_that_covers_most_of_it():
    labels = np.ones((32, 32), np.uint16)
    labels[:, 13:] = 2  # 3 of 8 columns of patch 5
    labels[20:] = 7
    assert np.array_equal(region_under(labels, 5, 8), labels == 1)
    assert np.array_equal(region_under(labels, 6, 8), labels == 2)
    assert np.array_equal(region_under(labels, 15, 8), labels == 7)


def compiled() -> int:
    """How many programs the demo has compiled in this process."""
    parts = (segmenter._features, segmenter._memory, segmenter._decode)
    return sum(part._cache_size() for part in parts)


@pytest.mark.parametrize("changes", [LENGTH, CHANNEL])
def test_what_was_compiled_ahead_is_not_compiled_again(changes):
    segmenter, before = Segmenter(toy_model(**changes)), compiled()
    segmenter.compile_ahead(threading.Event())
    ready = compiled()
    for marked in range(1, 5):
        segmenter.complete(IMAGE, [Click(15 - patch, True) for patch in range(marked)], 0.75, seed=5)
    assert before < ready == compiled()
    segmenter.complete(IMAGE, CLICKS, 0.5, seed=5)
    assert compiled() == ready + 1, "another share of visible patches costs one more compilation"


def test_compiling_ahead_can_be_stopped():
    stop, before = threading.Event(), compiled()
    stop.set()
    Segmenter(toy_model(**BATCH)).compile_ahead(stop)
    assert compiled() == before

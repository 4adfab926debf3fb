import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmae_jax.model import Mask
from rmae_jax.model.masks import fill_holes, take


def test_visible_and_masked_patches_partition_the_image():
    mask = Mask.random(jax.random.key(0), 5, 196, 0.75)
    assert mask.visible_ids.shape == (5, 49)
    assert mask.masked_ids.shape == (5, 147)
    for visible, masked, flags in zip(mask.visible_ids, mask.masked_ids, mask.masked, strict=True):
        assert sorted([*visible.tolist(), *masked.tolist()]) == list(range(196))
        assert np.flatnonzero(flags).tolist() == sorted(masked.tolist())


def test_images_of_a_batch_and_keys_have_their_own_masks():
    first, second = (Mask.random(jax.random.key(seed), 4, 64, 0.75).permutation for seed in (0, 1))
    assert len({tuple(p) for p in np.concatenate([first, second]).tolist()}) == 8
    assert np.array_equal(first, Mask.random(jax.random.key(0), 4, 64, 0.75).permutation)


def test_every_patch_is_equally_often_visible():
    visible = ~np.asarray(Mask.random(jax.random.key(3), 4000, 16, 0.75).masked)
    # 4000 draws at 1/4: three and a half standard deviations for the most extreme of 16 patches.
    assert np.abs(visible.mean(axis=0) - 0.25).max() < 3.5 * np.sqrt(0.25 * 0.75 / 4000)


def test_from_permutation_takes_the_first_entries():
    mask = Mask.from_permutation(jnp.array([[3, 0, 2, 1]]), 0.5)
    assert mask.visible_ids.tolist() == [[3, 0]]
    assert mask.masked_ids.tolist() == [[2, 1]]
    assert mask.masked.tolist() == [[False, True, True, False]]
    assert mask.restore_ids.tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 25), (0.9, 10), (0.6, 40), (0.5, 50), (0.99, 1)])
def test_the_ratio_is_not_hurt_by_binary_fractions(ratio, visible):
    assert Mask.from_permutation(jnp.arange(100)[None], ratio).num_visible == visible


def test_of_two_ratios_one_visible_set_contains_the_other():
    mask = Mask.random(jax.random.key(0), 3, 64, 0.75)
    wider = mask.with_ratio(0.5)
    for few, many in zip(mask.visible_ids.tolist(), wider.visible_ids.tolist(), strict=True):
        assert set(few) < set(many)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 0.999])
def test_a_ratio_that_hides_all_or_nothing_is_refused(ratio):
    with pytest.raises(ValueError, match=f"mask ratio {ratio}"):
        Mask.from_permutation(jnp.arange(16)[None], ratio)


def test_fill_holes_puts_each_token_at_its_patch():
    mask = Mask.random(jax.random.key(4), 2, 9, 0.6)
    patches = jnp.arange(2 * 9 * 4, dtype=jnp.float32).reshape(2, 9, 4)
    token = jnp.full((1, 1, 4), -1.0)
    filled = np.asarray(fill_holes(take(patches, mask.visible_ids), token, mask))
    for image in range(2):
        for patch in range(9):
            hidden = patch in mask.masked_ids[image].tolist()
            assert np.array_equal(filled[image, patch], np.full(4, -1.0) if hidden else patches[image, patch])

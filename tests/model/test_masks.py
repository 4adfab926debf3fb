import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import toy_config

from rmae_jax.model import Mask
from rmae_jax.model.masks import draw_masks, fill_holes, reorder, take


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


def test_fill_holes_and_reorder_put_each_token_at_its_patch():
    mask = Mask.random(jax.random.key(4), 2, 9, 0.6)
    in_order = Mask.from_permutation(jnp.arange(9)[None].repeat(2, axis=0), 0.5)
    patches = jnp.arange(2 * 9 * 4, dtype=jnp.float32).reshape(2, 9, 4)
    token = jnp.full((1, 1, 4), -1.0)
    filled = fill_holes(take(patches, mask.visible_ids), token, 9)
    assert reorder(filled, mask, mask.with_ratio(0.5)) is filled
    filled = np.asarray(reorder(filled, mask, in_order))
    for image in range(2):
        for patch in range(9):
            hidden = patch in mask.masked_ids[image].tolist()
            assert np.array_equal(filled[image, patch], np.full(4, -1.0) if hidden else patches[image, patch])


def test_reorder_goes_from_any_order_to_any_other():
    first, second = (Mask.random(jax.random.key(seed), 3, 25, 0.75) for seed in (5, 6))
    patches = jax.random.normal(jax.random.key(7), (3, 25, 2))
    found = reorder(take(patches, first.permutation), first, second)
    assert np.array_equal(found, take(patches, second.permutation))


def drawn(region_permutation=None, **changes):
    config = toy_config(mask_ratio=0.75, region_mask_ratio=0.5, **changes)
    return draw_masks(jax.random.key(8), config, 4, 16, region_permutation)


def test_both_masks_of_a_step_follow_one_permutation():
    mask, region_mask = drawn()
    assert (mask.num_visible, region_mask.num_visible) == (4, 8)
    assert np.array_equal(mask.permutation, region_mask.permutation)
    assert np.array_equal(mask.permutation, Mask.random(jax.random.key(8), 4, 16, 0.75).permutation)


def test_separate_masks_are_independent():
    mask, region_mask = drawn(separate_masks=True)
    assert (mask.num_visible, region_mask.num_visible) == (4, 8)
    assert np.array_equal(mask.permutation, drawn()[0].permutation)
    pairs = zip(mask.permutation.tolist(), region_mask.permutation.tolist(), strict=True)
    assert all(one != other for one, other in pairs)


def test_a_permutation_drawn_by_the_data_is_the_regions_and_unless_separate_the_images():
    given = Mask.random(jax.random.key(9), 4, 16, 0.5).permutation
    mask, region_mask = drawn(given)
    assert np.array_equal(region_mask.permutation, given)
    assert np.array_equal(mask.permutation, given)
    assert (mask.num_visible, region_mask.num_visible) == (4, 8)
    mask, region_mask = drawn(given, separate_masks=True)
    assert np.array_equal(region_mask.permutation, given)
    assert not np.array_equal(mask.permutation, given)

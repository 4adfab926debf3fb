"""Overlapping masks laid into label maps, against a brute-force colouring of dense masks."""

import numpy as np
import pytest
from oriented_photographs import assert_same_masks, masks, run_lengths

from data_prep.images import BadImage
from data_prep.regions import mask_packing
from data_prep.regions.mask_packing import pack_masks


def runs(mask):
    return np.array(run_lengths(mask))


def first_fit(dense, height, width):
    """First-fit colouring, largest first, straight from its definition."""
    maps = []
    for mask in sorted((mask for mask in dense if mask.any()), key=lambda mask: -mask.sum()):
        for labels in maps:
            if not (labels[mask] != 0).any():
                break
        else:
            labels = np.zeros((height, width), int)
            maps.append(labels)
        labels[mask] = labels.max() + 1
    return np.array(maps).reshape(-1, height, width)


def random_masks(rng, height, width):
    """Boxes, specks, bands and noise, some of them empty, some the same."""
    found = []
    for _ in range(rng.integers(0, 25)):
        mask = np.zeros((height, width), bool)
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + rng.integers(0, height), left : left + rng.integers(0, width)] = True
        if rng.random() < 0.3:
            mask &= rng.random((height, width)) < rng.random()
        found += [mask] * rng.choice([1, 1, 1, 2])
    return found


@pytest.mark.parametrize("seed", range(60))
def test_no_mask_loses_a_pixel_and_maps_are_those_of_first_fit(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2).tolist()
    dense = random_masks(rng, height, width)
    maps = pack_masks([runs(mask) for mask in dense], height, width)
    np.testing.assert_array_equal(maps, first_fit(dense, height, width))
    assert_same_masks(masks(maps), [mask for mask in dense if mask.any()])


@pytest.mark.parametrize("dense", [[], [np.zeros((3, 5), bool)]])
def test_no_masks_no_maps(dense):
    maps = pack_masks([runs(mask) for mask in dense], 3, 5)
    assert maps.shape == (0, 3, 5) and maps.dtype == np.uint16


def test_masks_that_do_not_overlap_share_a_map():
    stripes = [np.arange(12)[:, None] // 3 == k for k in range(4)]
    dense = [np.broadcast_to(stripe, (12, 7)) for stripe in stripes]
    maps = pack_masks([runs(mask) for mask in dense], 12, 7)
    np.testing.assert_array_equal(maps, [np.repeat([1, 2, 3, 4], 3)[:, None] * np.ones((1, 7))])


def test_hundreds_of_masks():
    dense = [np.arange(400).reshape(20, 20) == k for k in range(400)]
    assert_same_masks(masks(pack_masks([runs(mask) for mask in dense], 20, 20)), dense)


def test_runs_of_length_zero_change_nothing():
    zeros = np.array([0, 0, 2, 0, 3, 2, 0, 1, 4, 0])
    np.testing.assert_array_equal(pack_masks([zeros], 3, 4)[0].T.ravel(), [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0])


def test_more_regions_than_a_map_holds(monkeypatch):
    dense = [np.arange(6).reshape(2, 3) == k for k in range(4)]
    monkeypatch.setattr(mask_packing, "MAX_REGIONS", 3)
    with pytest.raises(BadImage, match="more than 3 masks"):
        pack_masks([runs(mask) for mask in dense], 2, 3)


def test_a_pile_of_masks_is_refused_before_memory_runs_out():
    whole = runs(np.ones((2, 3), bool))
    assert len(pack_masks([whole] * 256, 2, 3)) == 256
    with pytest.raises(BadImage, match="more than 256 label maps"):
        pack_masks([whole] * 257, 2, 3)

"""Region sampling against a plain reference, and its statistics."""

import numpy as np
import pytest

from rmae_jax.data.region_sampling import bitmask_dtype, draw, sample_regions


def reference(rng: np.random.Generator, layers: np.ndarray, num_regions: int) -> np.ndarray:
    """K boolean maps, as section 3 of the paper describes the draw."""
    pool = [(s, label) for s, layer in enumerate(layers) for label in np.unique(layer) if label != 0]
    if not pool:
        return np.zeros((num_regions, *layers.shape[1:]), bool)
    if len(pool) >= num_regions:
        chosen = rng.choice(len(pool), num_regions, replace=False)
    else:
        tiled = list(range(len(pool))) * int(np.ceil(num_regions / len(pool)))
        chosen = rng.permutation(tiled)[:num_regions]
    return np.stack([layers[pool[k][0]] == pool[k][1] for k in chosen])


def unpack(bitmask: np.ndarray, num_regions: int) -> np.ndarray:
    return np.stack([bitmask >> k & 1 for k in range(num_regions)]).astype(bool)


@pytest.mark.parametrize("num_regions", [1, 3, 8, 9, 16, 17, 32])
@pytest.mark.parametrize("num_labels", [1, 2, 3, 5, 40, 60000])
def test_equals_the_reference_fed_the_same_generator(num_regions, num_labels):
    rng = np.random.default_rng(0)
    for layers in (
        rng.integers(0, num_labels + 1, (3, 12, 15), dtype=np.uint16),
        rng.integers(0, 2, (1, 6, 5), dtype=np.uint16) * np.uint16(num_labels),
    ):
        for seed in range(5):
            bitmask = sample_regions(np.random.default_rng(seed), layers, num_regions)
            assert bitmask.dtype == bitmask_dtype(num_regions)
            expected = reference(np.random.default_rng(seed), layers, num_regions)
            np.testing.assert_array_equal(unpack(bitmask, num_regions), expected)


@pytest.mark.parametrize("layers", [np.zeros((3, 8, 9), np.uint16), np.zeros((0, 8, 9), np.uint16)])
def test_without_candidates_the_maps_are_zero(layers):
    bitmask = sample_regions(np.random.default_rng(0), layers, 8)
    assert bitmask.shape == (8, 9) and bitmask.dtype == np.uint8 and not bitmask.any()


def test_labels_of_one_number_in_two_layers_are_two_regions():
    layers = np.zeros((2, 2, 2), np.uint16)
    layers[0, 0], layers[1, :, 0] = 7, 7
    maps = unpack(sample_regions(np.random.default_rng(0), layers, 2), 2)
    assert sorted(map(bytes, maps)) == sorted(map(bytes, [layers[0] == 7, layers[1] == 7]))


def test_a_slice_of_larger_maps():
    large = np.random.default_rng(0).integers(0, 9, (2, 20, 20), dtype=np.uint16)
    part = large[:, 3:9, 4:13]
    found = sample_regions(np.random.default_rng(1), part, 8)
    np.testing.assert_array_equal(found, sample_regions(np.random.default_rng(1), part.copy(), 8))


def test_enough_candidates_are_drawn_without_replacement_and_evenly():
    rng = np.random.default_rng(0)
    draws = np.stack([draw(rng, 20, 8) for _ in range(4000)])
    assert all(len(set(row)) == 8 for row in draws.tolist())
    counts = np.bincount(draws.ravel(), minlength=20)
    assert abs(counts / 4000 - 8 / 20).max() < 0.03


@pytest.mark.parametrize(("candidates", "expected"), [(1, {8}), (2, {4}), (3, {2, 3}), (5, {1, 2}), (7, {1, 2})])
def test_fewer_candidates_each_appear_nearly_equally_often(candidates, expected):
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts = np.bincount(draw(rng, candidates, 8), minlength=candidates)
        assert counts.sum() == 8 and counts.max() <= -(-8 // candidates)
        if candidates in (1, 2):
            assert set(counts) == expected
    totals = np.bincount(np.concatenate([draw(rng, candidates, 8) for _ in range(2000)]))
    assert abs(totals / 2000 - 8 / candidates).max() < 0.1


def test_bitmask_dtypes():
    assert [bitmask_dtype(k) for k in (1, 8, 9, 16, 17, 32)] == [np.uint8] * 2 + [np.uint16] * 2 + [np.uint32] * 2
    for num_regions in (0, -1, 33):
        with pytest.raises(ValueError, match=f"num_regions is {num_regions}"):
            bitmask_dtype(num_regions)

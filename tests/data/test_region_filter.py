"""Which regions may be drawn, against a count of patches written from the definition."""

import dataclasses
import pickle

import numpy as np
import pytest
import skimage.data
from small_datasets import make_record, write_dataset

from data_prep import felzenszwalb
from data_prep.dataset import records
from rmae_jax.data import DatasetError, RegionFilter, TFRecordSource, batches, center_examples
from rmae_jax.data.examples import RandomExamples
from rmae_jax.data.region_sampling import sample_regions


def touched(layers: np.ndarray, patch: int, chosen: np.ndarray) -> dict[tuple[int, int], int]:
    """How many of the chosen patches each region (layer, label) touches."""
    size = layers.shape[1] // patch
    grid = layers.reshape(len(layers), size, patch, size, patch).swapaxes(2, 3).reshape(len(layers), size**2, -1)
    counts = {(s, label): 0 for s in range(len(layers)) for label in np.unique(layers[s]).tolist() if label}
    for s in range(len(layers)):
        for position in chosen:
            for label in np.unique(grid[s, position]).tolist():
                if label:
                    counts[s, label] += 1
    return counts


@pytest.fixture(scope="module")
def layers() -> np.ndarray:
    """Three layers: real regions of a photograph, the same in other numbers, and noise that touches every patch."""
    found = felzenszwalb.layers(skimage.data.astronaut()[100:196, 100:196], scales=(20,))[0]
    noise = np.random.default_rng(0).integers(0, 3, found.shape)
    return np.stack([found, np.where(found % 3 == 0, 0, found + 7), noise]).astype(np.uint16)


@pytest.mark.parametrize("min_patches", [1, 2, 5])
@pytest.mark.parametrize("num_visible", [None, 1, 9])
def test_allowed_are_regions_that_touch_enough_patches_and_a_visible_one(layers, min_patches, num_visible):
    chosen = RegionFilter(16, min_patches, num_visible)
    permutation = chosen.draw_permutation(np.random.default_rng(1), 96)
    allowed = chosen.allowed(layers, permutation)
    everywhere = touched(layers, 16, np.arange(36))
    visible = everywhere if num_visible is None else touched(layers, 16, permutation[:num_visible])
    expected = {region for region, count in everywhere.items() if count >= min_patches and visible[region] > 0}
    assert {tuple(region) for region in np.argwhere(allowed).tolist()} == expected
    assert expected
    assert (len(expected) < len(everywhere)) == ((min_patches, num_visible) != (1, None))


def test_only_allowed_regions_are_drawn(layers):
    chosen = RegionFilter(16, 2, 4)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        permutation = chosen.draw_permutation(rng, 96)
        assert sorted(permutation.tolist()) == list(range(36))
        bits = sample_regions(rng, layers, 8, chosen.allowed(layers, permutation))
        grid = bits.reshape(6, 16, 6, 16).swapaxes(1, 2).reshape(36, -1)
        for k in range(8):
            patches = np.flatnonzero((grid >> k & 1).any(axis=1))
            assert len(patches) >= 2
            assert set(patches) & set(permutation[:4].tolist())


def test_nothing_is_drawn_where_no_region_is_visible():
    layers = np.zeros((1, 32, 32), np.uint16)
    layers[0, :16, :16] = 3
    chosen = RegionFilter(16, 1, 2)
    assert not sample_regions(np.random.default_rng(0), layers, 4, chosen.allowed(layers, np.array([3, 1, 0, 2]))).any()
    assert sample_regions(np.random.default_rng(0), layers, 4, chosen.allowed(layers, np.array([3, 0, 1, 2]))).any()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = [make_record(number) for number in range(6)]
    return write_dataset(tmp_path_factory.mktemp("data"), [made[:4], made[4:]])


def stream(folder, count: int, **changes) -> list[dict[str, np.ndarray]]:
    arguments = {"seed": 1, "batch_size": 4, "image_size": 32, "num_regions": 8}
    found = batches(TFRecordSource(folder), **(arguments | changes))
    taken = [next(found) for _ in range(count)]
    found.close()
    return taken


def test_permutations_are_a_part_of_the_stream(folder):
    chosen = RegionFilter(8, 1, 4)
    whole = stream(folder, 3, region_filter=chosen)
    for batch in whole:
        assert batch["permutation"].shape == (4, 16) and batch["permutation"].dtype == np.int32
    assert len(np.unique(np.concatenate([batch["permutation"] for batch in whole]), axis=0)) == 12
    halves = [stream(folder, 3, region_filter=chosen, host=host, num_hosts=2, threads=3) for host in (0, 1)]
    for key in ("permutation", "regions"):
        for batch, *parts in zip(whole, *halves, strict=True):
            np.testing.assert_array_equal(batch[key], np.concatenate([part[key] for part in parts]))


def test_permutations_do_not_depend_on_the_number_of_workers(folder):
    chosen = RegionFilter(8, 1, 4)
    for one, other in zip(
        stream(folder, 3, region_filter=chosen), stream(folder, 3, region_filter=chosen, workers=2), strict=True
    ):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_streams_regions_are_visible_under_the_permutation_beside_them(folder):
    found = {}
    for batch in stream(folder, 6, region_filter=RegionFilter(8, 2, 2)):
        grid = batch["regions"].reshape(4, 4, 8, 4, 8).swapaxes(2, 3).reshape(4, 16, -1)
        touches = np.stack([(grid >> k & 1).any(axis=2) for k in range(8)], axis=1)  # (examples, regions, patches)
        assert ((touches.sum(axis=2) == 0) | (touches.sum(axis=2) >= 2)).all()
        for name, permutation in (("own", batch["permutation"]), ("another's", np.roll(batch["permutation"], 1, 0))):
            visible = np.take_along_axis(touches, permutation[:, None, :2], axis=2).any(axis=2)
            found[name] = found.get(name, True) and bool((visible | ~touches.any(axis=2)).all())
        assert touches.any()
    assert found == {"own": True, "another's": False}


def test_a_filter_without_foreground_draws_nothing_more(folder):
    """The same images and, where all regions are allowed, the same regions."""
    plain, filtered = stream(folder, 2), stream(folder, 2, region_filter=RegionFilter(8, 1))
    for one, other in zip(plain, filtered, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_only_the_chosen_layers_are_drawn_from(folder, tmp_path):
    """As if the records held no other layers."""
    made = [make_record(number) for number in range(6)]
    packed = [records.pack_regions(record.regions[[1, 2]]) for record in made]
    made = [dataclasses.replace(r, region_layers=(0, 1), packed_regions=p) for r, p in zip(made, packed, strict=True)]
    expected = TFRecordSource(write_dataset(tmp_path / "two", [made]))
    source = pickle.loads(pickle.dumps(TFRecordSource(folder, region_layers=("blocks_2", "blocks_1"))))
    found, wanted = (center_examples(s, range(6), image_size=32, num_regions=8) for s in (source, expected))
    np.testing.assert_array_equal(found["regions"], wanted["regions"])
    found, wanted = (RandomExamples(s, 32, 8)(1, np.random.default_rng(0)) for s in (source, expected))
    np.testing.assert_array_equal(found["regions"], wanted["regions"])
    assert found["regions"].any()


def test_a_layer_that_is_not_there(folder, tmp_path):
    with pytest.raises(
        DatasetError, match="no region layer sam; split 'train' has layers blocks_0, blocks_1, blocks_2"
    ):
        TFRecordSource(folder, region_layers=("blocks_0", "sam"))
    bare = write_dataset(tmp_path / "bare", [[make_record(0, num_layers=0)]])
    with pytest.raises(DatasetError, match="no region layer sam; split 'train' has no region layers"):
        TFRecordSource(bare, region_layers=("sam",))


@pytest.mark.parametrize("wrong", [RegionFilter(7), RegionFilter(0), RegionFilter(8, 17), RegionFilter(8, 1, 0)])
def test_a_filter_that_does_not_fit_is_refused_at_once(folder, wrong):
    with pytest.raises(ValueError, match="does not divide the image size 32|must be 1 to 16"):
        batches(TFRecordSource(folder), seed=1, batch_size=4, image_size=32, num_regions=8, region_filter=wrong)

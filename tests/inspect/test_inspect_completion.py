"""Photographs as they are looked at, reconstructions and completed regions."""

import numpy as np
import pytest
from PIL import Image
from toy import randomised

import rmae_jax
from data_prep import felzenszwalb
from rmae_jax.inspect import complete_regions, load_photographs, reconstruct, view
from rmae_jax.inspect.region_completion import choose_regions, masks


def test_the_aspect_is_kept_up_to_two(folder):
    found = {one.name: one.image.shape[:2] for one in load_photographs([folder], 32, 8)}
    assert found == {"astronaut.png": (32, 48), "coffee.png": (32, 32), "rocket.png": (64, 32)}
    pixels = np.asarray(Image.open(folder / "coffee.png"))
    seen = view("coffee", pixels, 40, 8)
    assert np.array_equal(seen.image, np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC)))
    every_fifth = np.arange(40) * 5
    assert np.array_equal(seen.layers, felzenszwalb.layers(pixels)[:, every_fifth][:, :, every_fifth])


def test_a_reconstruction_is_what_complete_gives(model, photographs):
    one = photographs[0]
    made = reconstruct(model, one, mask_ratio=0.5, seed=3)
    mask, region_mask = masks(model, one, 0.5, 3)
    regions = choose_regions(one, 5, 3)
    maps = regions[np.arange(5) % len(regions)][None].astype(np.float32)
    expected = rmae_jax.complete(model, one.image[None], maps, mask, region_mask)
    assert np.array_equal(made.pixels, expected.pixels[0])
    assert made.hidden.mean() == 0.5
    assert np.allclose(made.pixels[~made.hidden], one.image[~made.hidden] / 255, atol=1e-5)
    completed = complete_regions(model, one, mask_ratio=0.5, seed=3)
    assert np.array_equal(completed.completed, expected.regions[0, : len(regions)])
    hidden, ours = completed.hidden, completed.completed[0] > 0.5
    both, either = (ours & regions[0])[hidden].sum(), (ours | regions[0])[hidden].sum()
    assert completed.iou[0] == pytest.approx(both / either)


def test_regions_are_drawn_by_seed_and_differ(photographs):
    regions = choose_regions(photographs[0], 8, seed=0)
    assert len({one.tobytes() for one in regions}) == len(regions) > 1
    area = regions.mean(axis=(1, 2))
    assert (np.diff(area) <= 0).all() and area.min() >= 0.01 and area.max() <= 0.9
    assert np.array_equal(regions, choose_regions(photographs[0], 8, seed=0))


@pytest.mark.parametrize("changes", [{"region_variant": "channel"}, {"region_variant": "batch"}, {"objective": "rae"}])
def test_every_variant_completes_regions(photographs, changes):
    made = complete_regions(randomised(**changes), photographs[1])
    assert made.completed.shape == made.regions.shape


def test_what_an_objective_does_not_have_is_named(photographs):
    with pytest.raises(ValueError, match='"rae" objective has no pixel decoder'):
        reconstruct(randomised(objective="rae"), photographs[1])
    with pytest.raises(ValueError, match='"mae" objective has no region branch'):
        complete_regions(randomised(objective="mae"), photographs[1])

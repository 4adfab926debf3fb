import jax
import numpy as np
from PIL import Image
from toy import toy_model

from rmae_jax.model import Mask
from rmae_jax.model.patches import patchify, unpatchify
from rmae_jax.training import pictures


def test_normalised_predictions_get_the_colours_of_visible_patches():
    """Over a flat image any statistics are right, so the colours must be exact; hidden pixels must not matter."""
    flat = np.broadcast_to(np.array([0.3, -0.5, 1.0], np.float32), (1, 32, 32, 3)).copy()
    mask = Mask.random(jax.random.key(0), 1, 16, 0.75)
    hidden = np.asarray(mask.masked)
    predicted = np.random.default_rng(0).normal(size=(1, 16, 192)).astype(np.float32)
    grid = hidden.reshape(1, 4, 4).repeat(8, axis=1).repeat(8, axis=2)[..., None]
    shown = pictures.unnormalized(predicted, flat, hidden, 8)
    assert np.array_equal(shown, pictures.unnormalized(predicted, np.where(grid, 7, flat), hidden, 8))
    means = shown.reshape(16, 64, 3).mean(axis=1)
    assert np.allclose(means, [0.3, -0.5, 1.0], atol=1e-2)


def test_a_picture_of_each_objective(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    bits = rng.integers(0, 32, (2, 4, 4)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    widths = []
    for objective in ("mae", "rae", "rmae"):
        path = tmp_path / f"{objective}.png"
        pictures.draw(toy_model(objective=objective), images, None if objective == "mae" else bits, path)
        with Image.open(path) as picture:
            widths.append(picture.width)
    assert widths[0] < widths[1] < widths[2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mae.png", "rae.png", "rmae.png"]


def test_patches_of_a_map_stay_in_place():
    maps = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    patches = patchify(maps[..., None], 8)
    assert np.array_equal(unpatchify(patches, (4, 4), 8)[..., 0], maps)

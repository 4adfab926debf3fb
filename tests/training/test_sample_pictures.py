import numpy as np
from PIL import Image
from toy import toy_model

from rmae_jax.model.patches import patchify, unpatchify
from rmae_jax.training import sample_pictures


def test_a_picture_of_each_objective(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    bits = rng.integers(0, 32, (2, 4, 4)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    widths = []
    for objective in ("mae", "rae", "rmae"):
        path = tmp_path / f"{objective}.png"
        sample_pictures.draw_completions(
            toy_model(objective=objective), images, None if objective == "mae" else bits, path
        )
        with Image.open(path) as picture:
            widths.append(picture.width)
    assert widths[0] < widths[1] < widths[2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mae.png", "rae.png", "rmae.png"]


def test_patches_of_a_map_stay_in_place():
    maps = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    patches = patchify(maps[..., None], 8)
    assert np.array_equal(unpatchify(patches, (4, 4), 8)[..., 0], maps)

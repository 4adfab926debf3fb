"""Nearest resizing of label maps against the formula, written out."""

import numpy as np

from rmae_jax.data.crops import Crop
from rmae_jax.data.nearest import resize_nearest


def reference(layers: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    """floor(float32(dst) * float32(in / out)) on the crop; a flip mirrors the result."""
    part = layers[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    rows, columns = (
        [min(int(np.floor(np.float32(i) * (np.float32(size) / np.float32(out)))), size - 1) for i in range(out)]
        for size, out in ((crop.height, height), (crop.width, width))
    )
    return part[:, rows][:, :, columns][:, :, :: -1 if crop.flip else 1]


def test_equals_the_formula_on_random_crops_and_sizes():
    rng = np.random.default_rng(0)
    layers = rng.integers(0, 65536, (3, 120, 170), dtype=np.uint16)
    for _ in range(200):
        height, width = int(rng.integers(1, 121)), int(rng.integers(1, 171))
        top, left = int(rng.integers(121 - height)), int(rng.integers(171 - width))
        crop = Crop(top, left, height, width, flip=bool(rng.integers(2)))
        out = (int(rng.integers(1, 230)), int(rng.integers(1, 230)))
        np.testing.assert_array_equal(resize_nearest(layers, crop, *out), reference(layers, crop, *out))


def test_every_size_to_224():
    """Sizes at which the rounding of the scale to float32 decides, among them."""
    for size in range(1, 1200):
        line = np.arange(size, dtype=np.uint16)[None, None]
        crop = Crop(0, 0, 1, size)
        np.testing.assert_array_equal(resize_nearest(line, crop, 1, 224), reference(line, crop, 1, 224))


def test_no_layers():
    assert resize_nearest(np.zeros((0, 9, 9), np.uint16), Crop(0, 0, 9, 9), 4, 4).shape == (0, 4, 4)

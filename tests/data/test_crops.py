"""The random resized crop: bounds, distribution, fall-back."""

import math

import numpy as np
import pytest

from rmae_jax.data.crops import Crop, random_resized_crop, whole_image


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    rng = np.random.default_rng(0)
    return [random_resized_crop(rng, 480, 640) for _ in range(4000)]


def test_crops_lie_in_the_image(crops):
    for crop in crops:
        crop.check(480, 640)


def test_area_is_uniform_and_aspect_log_uniform(crops):
    area = np.array([crop.height * crop.width for crop in crops]) / (480 * 640)
    aspect = np.log([crop.width / crop.height for crop in crops])
    assert 0.199 < area.min() < 0.22 and 0.9 < area.max() <= 1.0
    assert abs(aspect).max() < math.log(4 / 3) + 0.01
    small = area < 0.5  # all aspects fit: nothing is rejected
    assert abs(area[small].mean() - 0.35) < 0.01
    assert abs(aspect[small].mean()) < 0.02
    assert abs(aspect[small].std() - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.01


def test_places_are_uniform_and_half_are_flipped(crops):
    top = np.mean([crop.top / max(1, 480 - crop.height) for crop in crops])
    left = np.mean([crop.left / max(1, 640 - crop.width) for crop in crops])
    assert abs(top - 0.5) < 0.03 and abs(left - 0.5) < 0.03
    assert abs(np.mean([crop.flip for crop in crops]) - 0.5) < 0.03


def test_the_algorithm_is_torchvisions():
    """The same draws, written out as torchvision's documentation describes them."""
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(50):
        crop = random_resized_crop(rng, 100, 130)
        while True:
            area = 100 * 130 * same.uniform(0.2, 1.0)
            aspect = math.exp(same.uniform(math.log(3 / 4), math.log(4 / 3)))
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if width <= 130 and height <= 100:
                break
        top, left = same.integers(100 - height + 1), same.integers(130 - width + 1)
        assert crop == (top, left, height, width, same.random() < 0.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10)), ((1, 1), (0, 0, 1, 1)), ((1, 50), (0, 24, 1, 1))],
)
def test_extreme_shapes_fall_back_to_the_largest_centred_crop(size, expected):
    rng = np.random.default_rng(0)
    found = [random_resized_crop(rng, *size) for _ in range(20)]
    for crop in found:
        crop.check(*size)
    assert expected in [crop[:4] for crop in found]


def test_the_whole_image():
    assert whole_image(3, 4) == Crop(0, 0, 3, 4, flip=False)

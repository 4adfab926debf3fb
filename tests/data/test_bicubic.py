"""The bicubic kernel against Pillow, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import Crop, random_resized_crop


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Noise with saturated blocks: overshoot must be clipped as Pillow clips it."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    image[40:120, 60:200] = np.where(rng.random((80, 140, 3)) < 0.5, 0, 255)
    return image


def pillow(image: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    """Pillow's result with the horizontal pass first, whichever the release."""
    part = Image.fromarray(image).crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    part = part.resize((width, crop.height), Image.BICUBIC).resize((width, height), Image.BICUBIC)
    return np.asarray(part)[:, :: -1 if crop.flip else 1]


def random_crop(rng: np.random.Generator, image: np.ndarray) -> Crop:
    height, width = (int(rng.integers(1, size + 1)) for size in image.shape[:2])
    top, left = int(rng.integers(image.shape[0] - height + 1)), int(rng.integers(image.shape[1] - width + 1))
    return Crop(top, left, height, width, flip=bool(rng.integers(2)))


def test_equals_pillow_on_random_crops_and_sizes(image):
    rng = np.random.default_rng(1)
    for _ in range(300):
        crop = random_crop(rng, image)
        height, width = (int(size) for size in rng.integers(1, 260, 2))
        np.testing.assert_array_equal(
            resize_bicubic(image, crop, height, width), pillow(image, crop, height, width), str((crop, height, width))
        )


def test_equals_one_call_of_pillow_where_all_releases_agree(image):
    rng = np.random.default_rng(2)
    for _ in range(50):
        crop = random_resized_crop(rng, *image.shape[:2])
        if crop.height > crop.width:  # Pillow 13 may take the vertical pass first
            continue
        part = Image.fromarray(image).crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        expected = np.asarray(part.resize((96, 96), Image.BICUBIC))[:, :: -1 if crop.flip else 1]
        np.testing.assert_array_equal(resize_bicubic(image, crop, 96, 96), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "crop", [(0, 0, 240, 320), (239, 319, 1, 1), (0, 0, 1, 320), (0, 0, 240, 1), (17, 5, 33, 32), (3, 4, 64, 64)]
)
def test_edge_cases(image, crop, flip):
    crop = Crop(*crop, flip=flip)
    for size in ((64, 64), (1, 1), (240, 320), (crop.height, crop.width)):
        np.testing.assert_array_equal(resize_bicubic(image, crop, *size), pillow(image, crop, *size))


def test_unchanged_size_copies_the_pixels(image):
    np.testing.assert_array_equal(resize_bicubic(image, Crop(7, 9, 50, 60), 50, 60), image[7:57, 9:69])


def test_strided_and_read_only_images(image):
    crop = Crop(5, 6, 70, 80)
    strided = np.repeat(image, 2, axis=1)[:, ::2]
    strided.setflags(write=False)
    np.testing.assert_array_equal(resize_bicubic(strided, crop, 32, 32), resize_bicubic(image, crop, 32, 32))


@pytest.mark.parametrize("crop", [(0, 0, 241, 10), (-1, 0, 10, 10), (0, 311, 10, 10), (0, 0, 0, 10)])
def test_crops_outside_the_image_are_refused(image, crop):
    with pytest.raises(ValueError, match="is empty or does not fit in an image of 240 x 320 pixels"):
        resize_bicubic(image, Crop(*crop), 32, 32)

"""Our Felzenszwalb-Huttenlocher layers against scikit-image's."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy import ndimage
from skimage.segmentation import felzenszwalb as skimage_felzenszwalb

from data_prep import felzenszwalb
from data_prep.shipped_photographs import PHOTOGRAPHS

SCALES = (500, 1000, 1500)


def reference(image, scales=SCALES, sigma=0.8):
    """Labels from 1, as ours; scikit-image numbers the sorted roots, which are the smallest pixels of the regions."""
    return np.stack([1 + skimage_felzenszwalb(image, scale=s, sigma=sigma, min_size=s) for s in scales])


def synthetic_photograph(rng, height, width):
    """Ellipses of smooth colour, texture of several sizes and sensor noise."""
    y, x = np.mgrid[:height, :width]
    image = rng.uniform(0, 255, 3) * np.ones((height, width, 1))
    for _ in range(12):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        inside = ((y - cy) / rng.uniform(5, height)) ** 2 + ((x - cx) / rng.uniform(5, width)) ** 2 < 0.25
        image[inside] = rng.uniform(0, 255, 3)
    for size in (0.5, 2, 8):
        texture = ndimage.gaussian_filter(rng.standard_normal((height, width)), size)
        image += 6 * texture[..., None] / texture.std() * rng.uniform(0.5, 1.5, 3)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_partition_of_photographs_is_scikit_images(name):
    photograph = Image.open(os.path.join(os.path.dirname(skimage.data.__file__), name)).convert("RGB")
    photograph.thumbnail((520, 520), Image.Resampling.BICUBIC)
    image = np.asarray(photograph)
    np.testing.assert_array_equal(felzenszwalb.layers(image), reference(image))


@pytest.mark.parametrize("seed", range(6))
def test_partition_of_synthetic_photographs_is_scikit_images(seed):
    rng = np.random.default_rng(seed)
    image = synthetic_photograph(rng, *rng.integers(60, 260, 2))
    scales = (10, 50, 120, 500)
    np.testing.assert_array_equal(felzenszwalb.layers(image, scales), reference(image, scales))


def test_partition_of_pure_noise_is_scikit_images():
    image = np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8)
    np.testing.assert_array_equal(felzenszwalb.layers(image, (1, 20, 300)), reference(image, (1, 20, 300)))


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_other_sigmas(sigma):
    image = synthetic_photograph(np.random.default_rng(1), 80, 90)
    np.testing.assert_array_equal(felzenszwalb.layers(image, (30, 200), sigma), reference(image, (30, 200), sigma))


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2), (1, 37), (41, 1), (2, 300), (3, 5), (300, 2)])
def test_odd_sizes(shape):
    image = np.random.default_rng(2).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(felzenszwalb.layers(image, (1, 3, 500)), reference(image, (1, 3, 500)))


def test_one_pixel():
    np.testing.assert_array_equal(felzenszwalb.layers(np.zeros((1, 1, 3), np.uint8)), np.ones((3, 1, 1)))


def test_flat_image_is_one_region():
    image = np.full((50, 70, 3), 93, np.uint8)
    np.testing.assert_array_equal(felzenszwalb.layers(image), np.ones((3, 50, 70)))


def test_two_flat_halves_are_two_regions():
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 40:] = 255
    np.testing.assert_array_equal(felzenszwalb.layers(image, (100,)), reference(image, (100,)))
    assert felzenszwalb.layers(image, (100,)).max() == 2


def test_not_contiguous_and_read_only_images():
    image = synthetic_photograph(np.random.default_rng(3), 70, 60)
    turned = np.rot90(image)
    turned.flags.writeable = False
    np.testing.assert_array_equal(
        felzenszwalb.layers(turned, (40,)), felzenszwalb.layers(np.ascontiguousarray(turned), (40,))
    )


def test_layers_are_in_the_order_of_the_scales():
    image = synthetic_photograph(np.random.default_rng(4), 90, 90)
    forth, back = felzenszwalb.layers(image, (20, 80, 300)), felzenszwalb.layers(image, (300, 80, 20))
    np.testing.assert_array_equal(forth, back[::-1])
    assert forth[0].max() > forth[2].max()


def test_labels_count_up_in_raster_order():
    for layer in felzenszwalb.layers(synthetic_photograph(np.random.default_rng(5), 100, 120), (10, 40)):
        labels, first = np.unique(layer, return_index=True)
        np.testing.assert_array_equal(labels, np.arange(1, len(labels) + 1))
        assert (np.diff(first) > 0).all()


def plain_python_layer(image, scale, sigma):
    """Textbook Felzenszwalb-Huttenlocher with a stable sort, where scikit-image's order of ties is not defined."""
    planes = image * (1 / 255)
    for channel in range(3):
        planes[..., channel] = ndimage.gaussian_filter(planes[..., channel], sigma, mode="reflect")
    height, width = image.shape[:2]
    pixel = np.arange(height * width).reshape(height, width)
    pairs = [
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:-1, :-1], np.s_[1:, 1:]),
        (np.s_[:-1, 1:], np.s_[1:, :-1]),
    ]
    cost = np.concatenate([np.sqrt(((planes[a] - planes[b]) ** 2).sum(-1)).ravel() for a, b in pairs])
    ends = np.concatenate([np.stack((pixel[a].ravel(), pixel[b].ravel()), 1) for a, b in pairs])
    order = np.argsort(cost, kind="stable")
    label = pixel.ravel().copy()
    inner = np.zeros(label.size)

    def merge(one, other, at):
        label[label == max(one, other)] = min(one, other)
        inner[min(one, other)] = at

    def size(root):
        return (label == root).sum()

    for i in order:
        one, other = label[ends[i]]
        limits = [np.float32(inner[root] + scale / 255 / size(root)) for root in (one, other)]
        if one != other and cost[i] < min(limits):
            merge(one, other, cost[i])
    for i in order:
        one, other = label[ends[i]]
        if one != other and min(size(one), size(other)) < scale:
            merge(one, other, 0)
    return 1 + np.unique(label, return_inverse=True)[1].reshape(height, width)


@pytest.mark.parametrize("sigma", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_ties_are_taken_in_the_documented_order(seed, sigma):
    """Images of few colours, in which most costs are equal."""
    rng = np.random.default_rng(seed)
    image = rng.choice(np.uint8([0, 90, 255]), (7, 9)).repeat(3, 0).repeat(2, 1)[..., None].repeat(3, -1)
    expected = np.stack([plain_python_layer(image, scale, sigma) for scale in (6, 20)])
    np.testing.assert_array_equal(felzenszwalb.layers(image, (6, 20), sigma), expected)


@pytest.mark.parametrize("low_bits", [1, 5, 1 << 20])
def test_sort_is_stable_however_many_keys_are_equal(low_bits):
    """Costs that agree in the bits which the radix sort sees, in runs short and long."""
    rng = np.random.default_rng(low_bits)
    height, width = 60, 70
    num_edges = 4 * height * width - 3 * (height + width) + 2
    bits = np.float64(0.25).view(np.int64) + rng.integers(0, low_bits, num_edges)
    bits += rng.integers(0, 300, num_edges) << 40
    bits[rng.random(num_edges) < 0.2] = 0
    order = np.argsort(bits, kind="stable")

    def radix_sorted(bits):
        edge = np.empty(num_edges, np.uint32)
        felzenszwalb._radix_sort(bits, edge, height, width, np.empty_like(bits), np.empty_like(edge))
        return bits, edge

    found, edge = radix_sorted(bits.copy())
    felzenszwalb._sort_equal_keys(found, edge)
    np.testing.assert_array_equal(found, bits[order])
    _, in_order = radix_sorted(np.zeros(num_edges, np.int64))
    np.testing.assert_array_equal(edge, in_order[order])


def test_too_many_regions_are_refused():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert reference(image, (1,), 0.0).max() > 65535
    with pytest.raises(ValueError, match=r"\d{5} regions at scale 1; a uint16 label map holds 65535"):
        felzenszwalb.layers(image, (1,), 0.0)


def test_no_scales_give_no_layers():
    assert felzenszwalb.layers(np.zeros((4, 5, 3), np.uint8), ()).shape == (0, 4, 5)


@pytest.mark.parametrize(
    ("image", "scales", "message"),
    [
        (np.zeros((4, 4), np.uint8), (5,), "height, width, 3"),
        (np.zeros((4, 4, 3), np.float32), (5,), "uint8"),
        (np.zeros((0, 4, 3), np.uint8), (5,), "4x0 pixels"),
        (np.zeros((4, 4, 3), np.uint8), (5, 0), "at least 1"),
    ],
)
def test_wrong_arguments(image, scales, message):
    unchecked = inspect.unwrap(felzenszwalb.layers)  # without the check of shapes that tests add
    with pytest.raises(ValueError, match=message):
        unchecked(image, scales)


def test_importing_data_prep_loads_neither_jax_nor_tensorflow():
    code = (
        "import sys, data_prep.__main__, data_prep.shipped_photographs;"
        "sys.exit(str({'jax', 'tensorflow', 'torch', 'flax', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == "set()"

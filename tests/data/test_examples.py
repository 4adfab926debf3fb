"""Training examples and centre crops: what a record becomes."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image
from small_datasets import make_record, write_dataset

from data_prep.dataset import records
from rmae_jax.data import DatasetError, TFRecordSource, center_examples
from rmae_jax.data.crops import random_resized_crop
from rmae_jax.data.examples import RandomExamples


def test_a_training_example_is_crop_resize_flip_and_draw(dataset):
    """Against Pillow and NumPy, fed the same generator."""
    source = TFRecordSource(dataset)
    make = RandomExamples(source, image_size=24, num_regions=8)
    for number in range(10):
        example = make(number, np.random.default_rng(number))
        rng, record = np.random.default_rng(number), source[number]
        crop = random_resized_crop(rng, record.height, record.width)
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        part = Image.fromarray(records.decode_image(record.image)).crop(box)
        part = part.resize((24, crop.height), Image.BICUBIC).resize((24, 24), Image.BICUBIC)
        mirror = slice(None, None, -1 if crop.flip else 1)
        np.testing.assert_array_equal(example["images"], np.asarray(part)[:, mirror])
        rows, columns = (
            np.floor(np.arange(24, dtype=np.float32) * np.float32(size / 24)).astype(int) + start
            for size, start in ((crop.height, crop.top), (crop.width, crop.left))
        )
        layers = record.regions[:, rows[:, None], columns][:, :, mirror]
        pool = [layer == label for layer in layers for label in np.unique(layer)]
        if len(pool) >= 8:
            drawn = rng.choice(len(pool), 8, replace=False)
        else:
            drawn = rng.permutation(np.tile(np.arange(len(pool)), math.ceil(8 / len(pool))))[:8]
        for k, region in enumerate(drawn):
            np.testing.assert_array_equal(example["regions"] >> k & 1, pool[region])
        assert example["record"] == number


def test_without_regions_the_maps_stay_packed(tmp_path):
    broken = dataclasses.replace(make_record(0), packed_regions=b"damaged")
    source = TFRecordSource(write_dataset(tmp_path / "dataset", [[broken]]))
    assert set(RandomExamples(source, 16, 0)(0, np.random.default_rng(0))) == {"images", "record"}
    with pytest.raises(DatasetError, match=r"record 0 .*, image folder/0.jpg: .*corrupt region maps"):
        RandomExamples(source, 16, 8)(0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": b"not a jpeg"}, "image folder/0.jpg: "),
        ({"image": make_record(0).image[:-400]}, "image folder/0.jpg: "),
        ({"image": make_record(0, height=41).image}, r"the image is \(41, 56\), but its record says \(40, 56\)"),
        ({"region_layers": (0, 1, 3)}, "region layer 3, but the dataset has 3 layers"),
        ({"packed_regions": make_record(0, num_layers=2).packed_regions}, "corrupt region maps"),
    ],
)
def test_a_record_that_cannot_be_decoded_is_named_in_one_line(tmp_path, change, expected):
    bad = dataclasses.replace(make_record(0), **change)
    source = TFRecordSource(write_dataset(tmp_path / "dataset", [[make_record(1), bad]]))
    with pytest.raises(DatasetError, match=rf"00000-of-00001: record 1 of split .*{expected}") as caught:
        RandomExamples(source, 16, 8)(1, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


def test_center_examples(tmp_path):
    made = [make_record(0, 40, 60), make_record(1, 61, 33), make_record(2, 32, 32)]
    source = TFRecordSource(write_dataset(tmp_path / "dataset", [made]))
    batch = center_examples(source, [2, 0, 1], image_size=32, num_regions=8, seed=5)
    assert {key: (array.shape, array.dtype) for key, array in batch.items()} == {
        "images": ((3, 32, 32, 3), np.uint8),
        "regions": ((3, 32, 32), np.uint8),
        "record": ((3,), np.int64),
    }
    np.testing.assert_array_equal(batch["images"][0], records.decode_image(made[2].image))
    wide = Image.fromarray(records.decode_image(made[0].image)).resize((48, 32), Image.BICUBIC).crop((8, 0, 40, 32))
    np.testing.assert_array_equal(batch["images"][1], np.asarray(wide))
    alone = center_examples(source, [1], image_size=32, num_regions=8, seed=5)
    np.testing.assert_array_equal(alone["regions"][0], batch["regions"][2])
    other = center_examples(source, [1], image_size=32, num_regions=8, seed=6)
    assert (other["regions"] != alone["regions"]).any()
    assert "regions" not in center_examples(source, [1], image_size=32)


def test_unfit_requests(dataset, tmp_path):
    source = TFRecordSource(dataset)
    with pytest.raises(ValueError, match="num_regions is 33"):
        RandomExamples(source, 16, 33)
    with pytest.raises(ValueError, match="image_size is 0"):
        RandomExamples(source, 0, 8)
    plain = TFRecordSource(write_dataset(tmp_path / "plain", [[make_record(0, num_layers=0)]]))
    with pytest.raises(DatasetError, match="no region maps; prepare it with --regions=fh, or use objective mae"):
        center_examples(plain, [0], image_size=16, num_regions=8)
    assert "regions" not in center_examples(plain, [0], image_size=16)
    empty = TFRecordSource(write_dataset(tmp_path / "empty", [[]]))
    with pytest.raises(DatasetError, match="has no records"):
        RandomExamples(empty, 16, 0)

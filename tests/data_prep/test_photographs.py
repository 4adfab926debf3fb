"""The photographs that scikit-image carries."""

import os
import shutil

import numpy as np
import skimage.data
from PIL import Image

from data_prep import photographs
from data_prep.job import prepare


def test_parts_are_disjoint_and_make_up_the_photograph(tmp_path):
    photographs.write(tmp_path)
    source = os.path.dirname(skimage.data.__file__)
    for name in photographs.PHOTOGRAPHS:
        whole = np.asarray(Image.open(os.path.join(source, name)))
        parts = [tmp_path / split / f"{name.split('.')[0]}.png" for split in ("train", "validation")]
        train = np.asarray(Image.open(parts[0]))
        np.testing.assert_array_equal(train, whole[:, : train.shape[1]])
        assert train.ndim == whole.ndim
        assert abs(train.shape[1] / whole.shape[1] - 0.75) < 0.01
        rest = whole[:, train.shape[1] :]
        assert parts[1].exists() == (rest.shape[1] >= 128)
        if parts[1].exists():
            np.testing.assert_array_equal(np.asarray(Image.open(parts[1])), rest)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        photographs.write(tmp_path / folder)
    one, two = (sorted((tmp_path / folder).rglob("*.png")) for folder in ("one", "two"))
    assert len(one) == len(two) >= 24
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_copy_of_a_prepared_folder_is_not_taken_for_changed_files(tmp_path):
    options = {"regions": "none", "workers": 1}
    photographs.write(tmp_path / "one" / "photographs")
    made = prepare(tmp_path / "one" / "photographs" / "validation", tmp_path / "one" / "data", **options)
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    photographs.write(tmp_path / "two" / "photographs")
    assert prepare(tmp_path / "two" / "photographs" / "validation", tmp_path / "two" / "data", **options) == made

"""The photographs that scikit-image carries."""

import os
import shutil

import numpy as np
import skimage.data
import skimage.transform
from PIL import Image

from data_prep import shipped_photographs
from data_prep.job import prepare


def test_parts_are_disjoint_and_make_up_the_photograph(tmp_path):
    shipped_photographs.write(tmp_path)
    source = os.path.dirname(skimage.data.__file__)
    for name in shipped_photographs.PHOTOGRAPHS:
        whole = np.asarray(Image.open(os.path.join(source, name)))
        cut = round(whole.shape[1] * 0.75)
        for split, part in (("train", whole[:, :cut]), ("validation", whole[:, cut:])):
            file = tmp_path / split / f"{name.split('.')[0]}.png"
            assert file.exists() == (part.shape[1] >= 128)
            if not file.exists():
                continue
            written = np.asarray(Image.open(file))
            if max(part.shape) <= 512:
                np.testing.assert_array_equal(written, part)
            else:
                assert np.abs(written - _reduced(part)).mean() < 3  # another filter; sparkling stars differ by 2.3


def _reduced(part):
    """The longer side 512 pixels at most, by another library's filter."""
    scale = 512 / max(part.shape)
    shape = [round(scale * side) for side in part.shape[:2]]
    return skimage.transform.resize(part, shape, order=3, anti_aliasing=True, preserve_range=True)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        shipped_photographs.write(tmp_path / folder)
    one, two = (sorted((tmp_path / folder).rglob("*.png")) for folder in ("one", "two"))
    assert len(one) == len(two) >= 24
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_copy_of_a_prepared_folder_is_not_taken_for_changed_files(tmp_path):
    options = {"regions": "none", "workers": 1}
    shipped_photographs.write(tmp_path / "one" / "photographs")
    made = prepare(tmp_path / "one" / "photographs" / "validation", tmp_path / "one" / "data", **options)
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    shipped_photographs.write(tmp_path / "two" / "photographs")
    assert prepare(tmp_path / "two" / "photographs" / "validation", tmp_path / "two" / "data", **options) == made

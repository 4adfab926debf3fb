"""Classes of pixels, against the arrays that they were made from, and through a whole job."""

import io

import numpy as np
import pytest
from oriented_photographs import item, photograph
from PIL import Image

from data_prep import job, verify
from data_prep.images import BadImage
from data_prep.regions.semantic import Semantic
from rmae_jax.data import TFRecordSource

SHAPE = (40, 60)
CLASSES = np.random.default_rng(0).integers(0, 150, SHAPE).astype(np.uint8)
CLASSES[:5] = 255


def made(folder, array, suffix=".png"):
    if suffix == ".npy":
        np.save(folder / "a.npy", array)
    else:
        Image.fromarray(array).save(folder / "a.png")
    (maps,) = Semantic(folder).ready(folder)(item("a.jpg"), *photograph(*SHAPE, 1))
    assert maps.shape == (1, *SHAPE) and maps.dtype == np.uint16
    return maps[0]


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_classes_are_kept(tmp_path, suffix):
    assert np.array_equal(made(tmp_path, CLASSES, suffix), np.where(CLASSES == 255, 0, CLASSES.astype(int) + 1))


def test_16_bits(tmp_path):
    classes = CLASSES.astype(np.uint16) * 7
    classes[0] = 65535
    assert np.array_equal(made(tmp_path, classes), np.where(classes == 65535, 0, classes.astype(int) + 1))


@pytest.mark.parametrize(
    ("array", "suffix", "message"),
    [
        (np.zeros((*SHAPE, 3), np.uint8), ".png", "a.png has colours"),
        (np.zeros((2, *SHAPE), np.uint8), ".npy", "a.npy has 2 maps instead of one; a pixel has one class"),
        (np.full(SHAPE, 70000, np.int32), ".npy", "a.npy has class 70000; classes are at most 65534"),
    ],
)
def test_what_is_no_map_of_classes(tmp_path, array, suffix, message):
    with pytest.raises(BadImage, match=message):
        made(tmp_path, array, suffix)


def test_a_job_whose_images_lack_classes(tmp_path):
    """Gaps in the numbers are no damage, and other layers stand beside."""
    for folder in ("images", "classes"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for name, value in (("a", 3), ("b", 8)):
        Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        classes = np.full(SHAPE, value, np.uint8)
        classes[:, :9], classes[0] = 1, 255
        with io.BytesIO() as file:
            Image.fromarray(classes).save(file, "PNG")
            (tmp_path / "classes" / f"{name}.png").write_bytes(file.getvalue())
    job.prepare(tmp_path / "images", tmp_path / "out", regions=f"fh,semantic:{tmp_path / 'classes'}", scales=(50,))
    source = TFRecordSource(tmp_path / "out", region_layers=["semantic"])
    assert [np.unique(source[i].regions[-1]).tolist() for i in range(2)] == [[0, 2, 4], [0, 2, 9]]
    assert source.metadata["num_regions"][1] == 4
    assert not [line for verdict in verify.verify(tmp_path / "out") for line in verdict.problems]

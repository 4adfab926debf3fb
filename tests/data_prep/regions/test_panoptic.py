"""Regions of COCO panoptic files, against arrays of segment ids."""

import io
import itertools
import json
import pickle

import numpy as np
import pytest
from oriented_photographs import UPRIGHT, item, photograph
from PIL import Image

from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions.panoptic import Panoptic

SHAPE = (40, 60)


def png(ids):
    """Segment ids as the format has them: R + 256 G + 256² B."""
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()


def write(folder, picture, segments, annotations=1, name="a.png"):
    """Writes a panoptic JSON and its folder; the PNG's bytes are `picture`."""
    image = {"id": 3, "file_name": "a.jpg", "height": SHAPE[0], "width": SHAPE[1]}
    annotation = {"image_id": 3, "file_name": name, "segments_info": segments}
    (folder / "p.json").write_text(json.dumps({"images": [image], "annotations": [annotation] * annotations}))
    (folder / "p").mkdir()
    (folder / "p" / "a.png").write_bytes(picture)
    return folder / "p.json"


def make(path, orientation=1, size=SHAPE):
    maker = pickle.loads(pickle.dumps(Panoptic(path).ready(path.parent)))
    (maps,) = maker(item(), *photograph(*size, orientation))
    assert maps.dtype == np.uint16
    return maps


def test_listed_segments_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.array([0, 1, 255, 256, 65535, 65536, 2**24 - 1, 1234567])
    segments = ids[rng.integers(0, len(ids), SHAPE)]
    listed = [65536, 77, 1, 2**24 - 1, 256, 1, 255]  # 77 has no pixels, 1 is there twice, three are not listed
    maps = make(write(tmp_path, png(segments), [{"id": number, "isthing": 1} for number in listed]))
    expected = np.zeros(SHAPE, int)
    for label, number in enumerate([65536, 1, 2**24 - 1, 256, 255], 1):
        expected[segments == number] = label
    np.testing.assert_array_equal(maps, expected[None])


def test_nothing_listed_gives_a_map_without_regions(tmp_path):
    maps = make(write(tmp_path, png(np.ones(SHAPE, int)), []))
    np.testing.assert_array_equal(maps, np.zeros((1, *SHAPE)))


def test_an_image_without_annotation_has_no_maps(tmp_path):
    assert make(write(tmp_path, b"", [], annotations=0)).shape == (0, *SHAPE)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_turned_images(tmp_path, orientation, drawn_on):
    shape = SHAPE if drawn_on == "stored" or orientation < 5 else SHAPE[::-1]
    segments = np.zeros(shape, int)
    segments[3:9, 5:30] = 300
    maps = make(write(tmp_path, png(segments), [{"id": 300}]), orientation)
    turn = UPRIGHT[orientation] if drawn_on == "stored" and orientation >= 5 else UPRIGHT[1]
    np.testing.assert_array_equal(maps[0], turn(segments) // 300)
    assert maps.flags.c_contiguous


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotations": 2}, "p.json has 2 annotations of the image"),
        ({"name": "b.png"}, "b.png cannot be read: No such file"),
        ({"name": 7}, "p.json has no 'file_name'"),
        ({"segments": {}}, "p.json has no 'file_name' or no list 'segments_info'"),
        ({"segments": [7]}, "id is not between"),
        ({"segments": [{}]}, "id is not between"),
        ({"segments": [{"id": -1}]}, "id is not between"),
        ({"segments": [{"id": 2**24}]}, "id is not between"),
        ({"segments": [{"id": "5"}]}, "id is not between"),
        ({"picture": b""}, "a.png is truncated, corrupt or not a PNG"),
        ({"picture": png(np.zeros(SHAPE, int))[:-40]}, "a.png is truncated, corrupt or not a PNG"),
        ({"picture": png(np.zeros((3, 5), int))}, "a.png is for an image of 5x3, not 60x40"),
        ({"picture": encoded(Image.new("L", SHAPE[::-1]))}, "a.png is not RGB"),
        ({"picture": encoded(Image.new("RGBA", SHAPE[::-1]))}, "a.png has transparent pixels"),
    ],
)
def test_what_is_refused(tmp_path, change, reason):
    options = {"picture": png(np.zeros(SHAPE, int)), "segments": [{"id": 5}]} | change
    path = write(tmp_path, **options)
    with pytest.raises(BadImage, match=reason) as caught:
        make(path)
    assert "\n" not in str(caught.value)


def test_more_segments_than_a_map_holds(tmp_path):
    segments = np.arange(1, 65537).reshape(256, 256)
    listed = [{"id": number} for number in range(1, 65537)]
    assert make(write(tmp_path, png(segments), listed[:-1]), size=(256, 256)).max() == 65535
    (tmp_path / "again").mkdir()
    with pytest.raises(BadImage, match="a.png has 65536 segments"):
        make(write(tmp_path / "again", png(segments), listed), size=(256, 256))


def test_inputs_and_layers(tmp_path):
    source = Panoptic(write(tmp_path, b"1234", []))
    (tmp_path / "p" / "Z").mkdir()
    for name in ("b.png", "B.png", "Z/a.png", "no.txt"):
        (tmp_path / "p" / name).touch()
    assert [entry.name for entry in source.inputs()] == ["p.json", "B.png", "Z/a.png", "a.png", "b.png"]
    assert [entry.size for entry in itertools.islice(source.inputs(), 1, None)] == [0, 0, 4, 0]
    assert source.layers == ({"name": "panoptic", "method": "coco_panoptic", "annotations": "p.json"},)


def test_missing_file_and_folder(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"images": [], "annotations": []}')
    for use in (Panoptic(path).inputs, lambda: Panoptic(path).ready(tmp_path)):
        with pytest.raises(PrepError, match="p is not a folder; give the folder"):
            use()
    (tmp_path / "p").mkdir()
    path.unlink()
    for use in (Panoptic(path).inputs, lambda: Panoptic(path).ready(tmp_path)):
        with pytest.raises(PrepError, match="p.json is missing; give"):
            use()

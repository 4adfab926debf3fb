"""Regions of SA-1B's JSON files, against the masks that they were made from."""

import json
import pickle

import numpy as np
import pytest
from oriented_photographs import UPRIGHT, assert_same_masks, item, masks, photograph
from PIL import Image
from pycocotools import mask as coco_mask

from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions.sam import Sam

SHAPE = (40, 60)


def text(dense, shape=SHAPE):
    """A JSON as SA-1B has them."""
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in dense]
    annotations = [
        {"segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()}, "area": 1} for rle in rles
    ]
    image = {"image_id": 1, "height": shape[0], "width": shape[1], "file_name": "a.jpg"}
    return json.dumps({"image": image, "annotations": annotations})


@pytest.fixture
def dense():
    """Masks that lie in each other, beside each other and across each other, one of them twice."""
    found = np.zeros((5, *SHAPE), bool)
    found[0, 5:35, 10:50] = found[1, 10:20, 12:30] = found[2, 0:4] = found[3, 15:40, 25:33] = True
    found[4] = found[1]
    return found


def make(folder, image_id="a.jpg", orientation=1, beside=None):
    maker = pickle.loads(pickle.dumps(Sam(folder).ready(folder)))
    (maps,) = maker(item(image_id, beside), *photograph(*SHAPE, orientation))
    return maps


@pytest.mark.parametrize("image_id", ["a.jpg", "b/c/a.jpeg", "a"])
def test_masks_of_an_image(tmp_path, dense, image_id):
    (tmp_path / "a.json").write_text(text(dense))
    maps = make(tmp_path, image_id)
    assert len(maps) == 4
    assert_same_masks(masks(maps), list(dense))


def test_the_path_comes_before_the_base_name(tmp_path, dense):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.json").write_text(text(dense[:1]))
    (tmp_path / "b" / "a.json").write_text(text(dense[1:2]))
    assert_same_masks(masks(make(tmp_path, "b/a.jpg")), [dense[1]])
    assert_same_masks(masks(make(tmp_path, "a.jpg")), [dense[0]])


@pytest.mark.parametrize("compressed", [False, True])
def test_the_list_that_segment_anything_writes(tmp_path, dense, compressed):
    """amg.py --convert-to-rle; its counts are compressed if it is given a coco_rle mode."""
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in dense]
    counts = [rle["counts"].decode() if compressed else runs(mask) for rle, mask in zip(rles, dense, strict=True)]
    listed = [{"segmentation": {"size": list(SHAPE), "counts": c}, "area": 1, "bbox": [0, 0, 1, 1]} for c in counts]
    (tmp_path / "a.json").write_text(json.dumps(listed))
    assert_same_masks(masks(make(tmp_path)), list(dense))
    (tmp_path / "a.json").write_text("[]")
    assert make(tmp_path).shape == (0, *SHAPE)
    (tmp_path / "a.json").write_text(json.dumps([listed[0] | {"segmentation": {"size": [1, 2], "counts": [2]}}]))
    with pytest.raises(BadImage, match="a.json is for an image of 2x1, not 60x40"):
        make(tmp_path)


def runs(mask):
    """Run lengths by columns, by a plain loop, the first of them outside of the mask."""
    counts, last = [0], False
    for value in mask.ravel(order="F").tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("image_id", ["a.jpg", "b/a.jpg"])
def test_the_folder_of_png_files_that_segment_anything_writes(tmp_path, dense, image_id):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "metadata.csv").write_text("id,area\n")
    many = np.concatenate([dense, np.roll(dense, 3, axis=2), dense[:1]])  # 0.png to 10.png
    for number, mask in enumerate(many):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}.png")
    (tmp_path / "other.png").touch()
    assert_same_masks(masks(make(tmp_path, image_id)), list(many))
    names = {entry.name for entry in Sam(tmp_path).inputs()}
    assert names == {f"a/{number}.png" for number in range(11)}
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "4.png")
    with pytest.raises(BadImage, match="a/4.png is for an image of 3x3, not 60x40"):
        make(tmp_path, image_id)


def test_no_masks(tmp_path):
    (tmp_path / "a.json").write_text(text([]))
    assert make(tmp_path).shape == (0, *SHAPE)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_turned_images(tmp_path, dense, orientation, drawn_on):
    if drawn_on == "upright" and orientation >= 5:
        dense = dense.transpose(0, 2, 1)
    (tmp_path / "a.json").write_text(text(dense, dense.shape[1:]))
    turn = UPRIGHT[orientation] if drawn_on == "stored" and orientation >= 5 else UPRIGHT[1]
    assert_same_masks(masks(make(tmp_path, orientation=orientation)), [turn(mask) for mask in dense])


def test_beside_the_image(tmp_path, dense):
    def beside(suffix):
        return {".json": text(dense).encode()}[suffix]

    (maps,) = Sam(None).ready(tmp_path)(item("000123", beside), *photograph(*SHAPE))
    assert_same_masks(masks(maps), list(dense))
    assert list(Sam(None).inputs()) == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(FileNotFoundError(), "no .json next to the image"), (OSError(5, "Input/output error"), "cannot be read: Input")],
)
def test_beside_the_image_is_nothing(tmp_path, error, reason):
    def beside(suffix):
        raise error

    with pytest.raises(BadImage, match=reason):
        Sam(None).ready(tmp_path)(item("000123", beside), *photograph(*SHAPE))


def test_a_source_that_keeps_nothing_beside_images(tmp_path):
    with pytest.raises(PrepError, match="give the folder"):
        Sam(None).ready(tmp_path)(item(), *photograph(*SHAPE))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "a.json is not JSON"),
        ("[1, 2]", "a.json has no list 'annotations' of entries with 'segmentation', and is no such list"),
        ("[" * 100_000, "a.json is not JSON"),
        ("{}", "a.json has no list 'annotations'"),
        ('{"annotations": [{}]}', "a.json has no list 'annotations' of entries with 'segmentation'"),
        ('{"annotations": [7]}', "a.json has no list 'annotations' of entries with 'segmentation'"),
        ('{"annotations": []}', "a.json has no valid height and width for the image"),
        ('{"annotations": [], "image": {"height": 40}}', "a.json has no valid height and width for the image"),
        (text([], (3, 5)), "a.json is for an image of 5x3, not 60x40"),
        (text([np.ones((3, 5))]), "a.json: segmentation 0 of the image does not have the image's size"),
        (text([np.ones(SHAPE)]).replace('"counts": "', '"counts": "1'), "a.json: segmentation 0 of the image has"),
    ],
)
def test_what_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadImage, match=reason) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadImage, match="no b/a.json in "):
        make(tmp_path, "b/a.jpg")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(BadImage, match="a.json cannot be read: Is a directory"):
        make(tmp_path)


def test_inputs_and_layers(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("z.json", "b/c.json", "no.jpg"):
        (tmp_path / name).write_text("{}")
    assert [entry[:2] for entry in Sam(tmp_path).inputs()] == [("b/c.json", 2), ("z.json", 2)]
    assert Sam(tmp_path).layers == ({"name": "sam", "method": "sam"},)


def test_a_missing_folder(tmp_path):
    source = Sam(tmp_path / "none")
    for use in (source.inputs, lambda: source.ready(tmp_path)):
        with pytest.raises(PrepError, match="none is not a folder; give the folder"):
            use()

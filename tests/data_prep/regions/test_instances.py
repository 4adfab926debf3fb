"""Regions of COCO instance files, against pycocotools' own COCO class."""

import json
import pickle
import threading

import numpy as np
import pytest
from oriented_photographs import UPRIGHT, assert_same_masks, item, masks, photograph, run_lengths
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.regions import coco_annotations
from data_prep.regions.instances import Instances

HEIGHT, WIDTH = 40, 60
IMAGE = {"id": 1, "file_name": "a.jpg", "height": 1, "width": 1}


def write(path, segmentations, images=None):
    """Writes an annotation file; the segmentations are of the first image."""
    images = images or [{"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}]
    listed = [
        {"id": number, "image_id": images[0]["id"], "category_id": 1, "segmentation": segmentation, "iscrowd": 0}
        for number, segmentation in enumerate(segmentations, 1)
    ]
    path.write_text(json.dumps({"images": images, "annotations": listed, "categories": [{"id": 1, "name": "thing"}]}))
    return path


def make(path, scratch, image_id="a.jpg", orientation=1, size=(HEIGHT, WIDTH)):
    maker = pickle.loads(pickle.dumps(Instances(path).ready(scratch)))
    (maps,) = maker(item(image_id), *photograph(*size, orientation))
    return maps


def uncompressed(mask):
    return {"size": list(mask.shape), "counts": run_lengths(mask)}


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def coco_string(runs):
    """COCO's text of run lengths, from its description: differences in groups of five bits, the lowest first."""
    text = ""
    for number, run in enumerate(runs):
        value, more = run - (runs[number - 2] if number > 2 else 0), True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * more)
    return text


def random_segmentation(rng):
    kind = rng.choice(["polygons", "uncompressed", "compressed"])
    if kind == "polygons":
        scale = np.tile([WIDTH, HEIGHT], 8)
        size = rng.integers(3, 8, rng.integers(1, 4))
        return [(rng.uniform(-0.1, 1.1, 2 * n) * scale[: 2 * n]).round(2).tolist() for n in size]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
    mask[top : top + 15, left : left + 20] = True
    mask &= rng.random(mask.shape) < 0.9
    return uncompressed(mask) if kind == "uncompressed" else compressed(mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools 2.0.11 with NumPy 2
@pytest.mark.parametrize("seed", range(8))
def test_masks_are_those_of_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = write(tmp_path / "x.json", [random_segmentation(rng) for _ in range(rng.integers(1, 30))])
    reference = COCO(str(path))
    expected = [reference.annToMask(annotation).astype(bool) for annotation in reference.dataset["annotations"]]
    assert_same_masks(masks(make(path, tmp_path)), [mask for mask in expected if mask.any()])


def test_polygons_of_fewer_than_three_points_enclose_nothing(tmp_path):
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    path = write(tmp_path / "x.json", [[[5, 5, 30, 30]], [], [[1, 2], [], [3, 3, 9, 9], square]])
    (mask,) = masks(make(path, tmp_path))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[10:20, 10:20] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_image_without_annotations_has_no_maps(tmp_path):
    assert make(write(tmp_path / "x.json", []), tmp_path).shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_turned_images(tmp_path, orientation, drawn_on):
    """Masks of the stored size are oriented_photographs; where both sizes are the same, masks are taken as upright."""
    mask = np.zeros((HEIGHT, WIDTH) if drawn_on == "stored" or orientation < 5 else (WIDTH, HEIGHT), bool)
    mask[3:9, 5:30] = mask[20, 7] = True
    image = {"id": 1, "file_name": "a.jpg", "height": mask.shape[0], "width": mask.shape[1]}
    path = write(tmp_path / "x.json", [uncompressed(mask)], [image])
    turn = UPRIGHT[orientation] if drawn_on == "stored" and orientation >= 5 else UPRIGHT[1]
    assert_same_masks(masks(make(path, tmp_path, orientation=orientation)), [turn(mask)])


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = write(tmp_path / "x.json", [])
    with pytest.raises(BadImage, match="x.json is for an image of 60x40, not 61x40"):
        make(path, tmp_path, size=(HEIGHT, WIDTH + 1))


@pytest.mark.parametrize("height", [None, "40", 40.5, float("nan"), 0, -40, True, 10**30])
def test_sizes_that_are_none(tmp_path, height):
    path = write(tmp_path / "x.json", [], [{"id": 1, "file_name": "a.jpg", "height": height, "width": WIDTH}])
    with pytest.raises(BadImage, match="no valid height and width"):
        make(path, tmp_path)


AREA = HEIGHT * WIDTH
SIZE = [HEIGHT, WIDTH]


@pytest.mark.parametrize(
    "segmentation",
    [
        "text",
        {},
        [{}],
        [{"size": SIZE, "counts": [AREA]}, {"size": SIZE, "counts": [AREA - 1]}],
        [{"size": SIZE, "counts": [AREA]}, [1, 1, 9, 1, 9, 9]],
        {"size": SIZE},
        {"size": [HEIGHT], "counts": [AREA]},
        {"size": [WIDTH, HEIGHT], "counts": [AREA]},
        {"size": [1 << 40, 1 << 40], "counts": [AREA]},
        {"size": SIZE, "counts": None},
        {"size": SIZE, "counts": []},
        {"size": SIZE, "counts": [AREA - 1]},
        {"size": SIZE, "counts": [AREA, 1]},
        {"size": SIZE, "counts": [-1, AREA + 1]},
        {"size": SIZE, "counts": coco_string([5, 8, -3, AREA - 10])},
        {"size": SIZE, "counts": [AREA + 2**32]},
        {"size": SIZE, "counts": [10**30]},
        {"size": SIZE, "counts": [float(AREA)]},
        {"size": SIZE, "counts": [[AREA]]},
        {"size": SIZE, "counts": ""},
        {"size": SIZE, "counts": "0"},
        {"size": SIZE, "counts": "o" * 1000},
        {"size": SIZE, "counts": "o" * 12 + "0"},
        {"size": SIZE, "counts": "\u00e9\U0001f600\ud800"},
        {"size": SIZE, "counts": "\x00"},
        [1, 2, 3, 4, 5, 6],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["1", "2", "3", "4", "5", "6"]],
        [[0, 0, 10, 0, float("nan"), 10]],
        [[0, 0, 10, 0, float("inf"), 10]],
        [[0, 0, 10**400, 0, 10, 10]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, 1 << 23, 0, 0, 1 << 23]],
        [[0, 0, WIDTH, HEIGHT] * 2000],
    ],
)
def test_malformed_segmentations_are_refused(tmp_path, segmentation):
    path = write(tmp_path / "x.json", [[[1, 1, 9, 1, 9, 9]], segmentation])
    with pytest.raises(BadImage, match="x.json: segmentation 1 of the image ") as caught:
        make(path, tmp_path)
    assert "\n" not in str(caught.value)


def decoded(text, height, width):
    """Decodes compressed run lengths character by character; None if they are malformed."""
    counts, number, place = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or place > 5:
            return None
        number |= (code & 31) << 5 * place
        place += 1
        if not code & 32:
            number -= (code & 16) * 2 << 5 * (place - 1)
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = place = 0
    if place or not counts or min(counts) < 0 or sum(counts) != height * width:
        return None
    return np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height).T.astype(bool)


def test_damaged_run_lengths_give_their_mask_or_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    height, width = 6, 9
    alphabet = np.array([chr(code) for code in range(48, 112)])
    texts = ["".join(rng.choice(alphabet[:8], rng.integers(1, 12))) for _ in range(300)]
    texts += ["".join(rng.choice(alphabet, rng.integers(1, 12))) for _ in range(300)]
    for _ in range(600):
        mask = rng.random((height, width)) < rng.choice([0.1, 0.5, 0.9])
        text = list(compressed(mask)["counts"])
        for _ in range(rng.integers(0, 3)):
            text[rng.integers(0, len(text))] = rng.choice([*alphabet, "", "\x7f", "/", "00"])
        texts.append("".join(text))
    images = [{"id": n, "file_name": f"{n}.jpg", "height": height, "width": width} for n in range(len(texts))]
    listed = [{"image_id": n, "segmentation": {"size": [height, width], "counts": t}} for n, t in enumerate(texts)]
    (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": listed}))
    maker = Instances(tmp_path / "x.json").ready(tmp_path)
    data, pixels = photograph(height, width)
    refused = 0
    for number, text in enumerate(texts):
        expected = decoded(text, height, width)
        if expected is None:
            refused += 1
            with pytest.raises(BadImage):
                maker(item(f"{number}.jpg"), data, pixels)
        else:
            (maps,) = maker(item(f"{number}.jpg"), data, pixels)
            assert_same_masks(masks(maps), [expected] if expected.any() else [])
    assert 300 < refused < len(texts) - 150


def test_images_are_found_by_path_or_base_name(tmp_path):
    names = ["a.jpg", "b/a.jpg", "b/c.jpg", "d/e.jpg", "f/e.jpg", "twice.jpg", "twice.jpg", "\ud800.jpg"]
    images = [{"id": str(n), "file_name": name, "height": n + 1, "width": 1} for n, name in enumerate(names)]
    path = write(tmp_path / "x.json", [], images)
    listed = coco_annotations.index(path, tmp_path, ())
    for image_id, number in [
        ("a.jpg", 0),
        ("b/a.jpg", 1),
        ("other/a.jpg", 0),
        ("c.jpg", 2),
        ("other/c.jpg", 2),
        ("f/e.jpg", 4),
        ("\ud800.jpg", 7),
    ]:
        assert listed.find(image_id)[0]["height"] == number + 1
    for image_id, reason in [
        ("e.jpg", "listed more than once in x.json"),
        ("twice.jpg", "listed more than once in x.json"),
        ("g.jpg", "not listed in x.json"),
        ("a.png", "not listed in x.json"),
    ]:
        with pytest.raises(BadImage, match=reason):
            listed.find(image_id)


def test_annotations_keep_their_order_and_those_of_other_images_are_left_out(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 1, "width": 1} for n in range(3)]
    listed = [{"image_id": n % 4, "segmentation": n, "area": 1} for n in range(12)]
    (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": listed}))
    found = coco_annotations.index(tmp_path / "x.json", tmp_path, ("segmentation",))
    assert [found.find(f"{n}.jpg")[1] for n in range(3)] == [
        [{"segmentation": n}, {"segmentation": n + 4}, {"segmentation": n + 8}] for n in range(3)
    ]


@pytest.mark.parametrize(
    ("image_id", "referred"), [(1, "1"), ("1", 1), (1.0, 1), ("01", "01"), ("a", "a"), (10**20, str(10**20))]
)
def test_ids_are_equal_as_numbers_and_as_text(tmp_path, image_id, referred):
    listed = [{"image_id": referred, "segmentation": 5}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": [IMAGE | {"id": image_id}], "annotations": listed}))
    index = coco_annotations.index(path, tmp_path, ("segmentation",))
    assert index.find("a.jpg")[1] == [{"segmentation": 5}]
    assert index.notes() == []


def test_annotations_that_cannot_be_used_are_counted(tmp_path):
    path, good = tmp_path / "x.json", {"image_id": 1, "segmentation": [1]}
    bad = [{"image_id": 2, "segmentation": []}] * 3 + [{"image_id": 1}, {"image_id": 1, "segmentation": None}]
    path.write_text(json.dumps({"images": [IMAGE], "annotations": [*bad, good]}))
    index = coco_annotations.index(path, tmp_path, ("segmentation",))
    assert index.find("a.jpg")[1] == [{"segmentation": [1]}]
    assert (
        index.notes()
        == Instances(path).notes(tmp_path)
        == [
            "x.json: 3 annotations skipped: their image_id is not among the images",
            "x.json: 2 annotations skipped: they have no segmentation",
        ]
    )
    path.write_text(json.dumps({"images": [IMAGE], "annotations": bad[:3]}))
    with pytest.raises(PrepError, match="none of the 3 annotations can be used: 3 because their image_id is not among"):
        coco_annotations.index(path, tmp_path, ("segmentation",))


@pytest.mark.parametrize("other", ["1", 1.0])
def test_ids_that_are_equal_are_refused(tmp_path, other):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": [IMAGE, IMAGE | {"id": other}], "annotations": []}))
    with pytest.raises(PrepError, match="images.1. has no unique 'id'"):
        coco_annotations.index(path, tmp_path, ())


@pytest.mark.parametrize(
    ("names", "image_id"),
    [
        ({"file_name": "train\\a.jpg"}, "train/a.jpg"),
        ({"coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"}, "000000391895.jpg"),
        ({"coco_url": "http://x/val2017/7.jpg", "file_name": None}, "val2017/7.jpg"),
        ({"file_name": "a.jpg", "coco_url": "http://x/b.jpg"}, "a.jpg"),
        ({"file_name": "aachen_000000_000019_gtFine_leftImg8bit.png"}, "aachen/aachen_000000_000019_leftImg8bit.png"),
    ],
)
def test_images_of_windows_and_of_lvis_are_found(tmp_path, names, image_id):
    entry = {"id": 1, "height": float(HEIGHT), "width": float(WIDTH)} | names
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:9, 3:30] = True
    content = {"images": [entry], "annotations": [{"image_id": 1, "segmentation": uncompressed(mask)}]}
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())  # with the mark that Windows' editors write
    assert_same_masks(masks(make(path, tmp_path, image_id)), [mask])


def test_a_list_of_run_lengths_is_their_union(tmp_path):
    rng = np.random.default_rng(0)
    parts = rng.random((3, HEIGHT, WIDTH)) < 0.2
    path = write(tmp_path / "x.json", [[uncompressed(parts[0]), compressed(parts[1]), uncompressed(parts[2])]])
    assert_same_masks(masks(make(path, tmp_path)), [parts.any(axis=0)])


def test_the_parsed_file_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "x.json", [])
    first = coco_annotations.index(path, tmp_path, ("segmentation",))
    monkeypatch.setattr(coco_annotations, "_rows", None)
    assert coco_annotations.index(path, tmp_path, ("segmentation",)) == first
    monkeypatch.undo()
    write(path, [[]])
    second = coco_annotations.index(path, tmp_path, ("segmentation",))
    assert second.find("a.jpg")[1] and not first.find("a.jpg")[1]
    assert coco_annotations.index(path, tmp_path, ()) != second
    assert not list(tmp_path.glob("*.tmp"))


def test_threads_may_share_a_maker(tmp_path):
    path = write(tmp_path / "x # y?.json", [[[1, 1, 9, 1, 9, 9]]])
    maker = Instances(path).ready(tmp_path)
    data, pixels = photograph(HEIGHT, WIDTH)
    found = []
    threads = [threading.Thread(target=lambda: found.append(maker(item(), data, pixels))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for (maps,) in found:
        np.testing.assert_array_equal(maps, found[0][0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "x.json is not JSON"),
        (b'{"images": [', "x.json is not JSON"),
        (b"\xff\xfe\x00\x01", "x.json is not JSON"),
        (b"[" * 100_000, "x.json is not JSON"),
        (b"[]", "no list 'images'"),
        ({"images": {}}, "no list 'images'"),
        ({"images": [IMAGE]}, "no list 'annotations'"),
        ({"images": [7], "annotations": []}, "images.0. has no 'id'"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "images.1. has no unique 'id'"),
        ({"images": [IMAGE | {"id": []}], "annotations": []}, "images.0. has no unique 'id'"),
        ({"images": [IMAGE | {"file_name": 1}], "annotations": []}, "images.0. has no 'file_name' that is text"),
        ({"images": [{"id": 1, "file_name": "a"}], "annotations": []}, "images.0. has no 'height'"),
        ({"images": [IMAGE], "annotations": [{"segmentation": []}]}, "annotations.0. has no 'image_id'"),
        (
            {"images": [IMAGE], "annotations": [{"image_id": 1}]},
            "none of the 1 annotations can be used: 1 because they have no segmentation",
        ),
        ({"images": [IMAGE], "annotations": [{"image_id": {}, "segmentation": []}]}, "'image_id' of annotations.0."),
    ],
)
def test_files_that_are_not_coco_shaped(tmp_path, content, reason):
    path = tmp_path / "x.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(PrepError, match=reason) as caught:
        Instances(path).ready(tmp_path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_missing_file(tmp_path):
    source = Instances(tmp_path / "x.json")
    for use in (source.inputs, lambda: source.ready(tmp_path)):
        with pytest.raises(PrepError, match="x.json is missing; give"):
            use()


def test_inputs_and_layers(tmp_path):
    source = Instances(write(tmp_path / "x.json", []), name="things")
    ((name, size, _),) = source.inputs()
    assert (name, size) == ("x.json", (tmp_path / "x.json").stat().st_size)
    assert source.layers == ({"name": "things", "method": "coco_instances", "annotations": "x.json"},)

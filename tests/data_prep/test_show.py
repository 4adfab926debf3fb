"""The sheet of a dataset: regions are drawn where they are, and any dataset gives a picture or one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import whole_datasets
from PIL import Image
from whole_datasets import make_record

from data_prep import show, verify
from data_prep.dataset import records
from data_prep.errors import PrepError
from data_prep.sheet import layout, panels, statistics
from data_prep.sheet.canvas import Canvas

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five images in two shards: upright, wide, tiny and without regions; some were left out."""
    shards = [
        [make_record(0, label=0), make_record(1, (0,), 120, 40), make_record(2, (), 1, 1)],
        [make_record(3, (0, 1), 8, 200, image_id="名前/$x^$" + "long/" * 60), make_record(4, (1,), 400, 300)],
    ]
    skipped = [(f"{i}.jpg", f"{i}x9000 is more than 100 pixels") for i in range(5)] + [("\udcff.jpg", "empty file")]
    folder = tmp_path_factory.mktemp("dataset") / "toy"
    return whole_datasets.write(folder, shards, classes=("cat", "dog"), skipped=skipped)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_regions_lie_where_they_are():
    photograph = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    label_map = np.zeros((6, 8), np.uint16)
    label_map[1:4, 2:5] = 1
    label_map[1:4, 5:7] = 2
    drawn = panels.draw_regions(photograph, label_map[None]).astype(int)
    gray = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    boundary = np.zeros((6, 8), bool)
    boundary[1, 2:7] = boundary[4, 2:7] = True
    boundary[1:4, [2, 5, 7]] = True
    outside = (label_map == 0) & ~boundary
    np.testing.assert_array_equal(drawn[boundary], 255)
    np.testing.assert_array_equal(drawn[outside], gray)
    one, two = (drawn[(label_map == label) & ~boundary] for label in (1, 2))
    assert (one == one[0]).all() and (two == two[0]).all()
    assert abs(one[0] - two[0]).max() > 50 and np.ptp(one[0]) > 50 and np.ptp(two[0]) > 50
    assert abs(one[0] - gray / 2).max() <= 128  # half of it is the photograph


def test_later_maps_lie_upon_earlier_ones_in_other_colours():
    photograph = np.full((5, 9, 3), 100, np.uint8)
    maps = np.zeros((2, 5, 9), np.uint16)
    maps[0, :, :6] = 1
    maps[1, :, 3:] = 1
    drawn = panels.draw_regions(photograph, maps).astype(int)
    both, first, second = drawn[2, 4], drawn[2, 1], drawn[2, 7]
    assert abs(first - second).max() > 30
    np.testing.assert_allclose(both, first / 2 + (second - 50), atol=1)
    assert (drawn[:, [3, 6]] == 255).all()


def test_no_map_gives_the_gray_photograph():
    photograph = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    drawn = panels.draw_regions(photograph, np.zeros((0, 7, 5), np.uint16))
    with_gray = np.asarray(Image.fromarray(photograph).convert("L"))[..., None].astype(int)
    assert abs(drawn - with_gray).max() <= 1


def test_neighbouring_colours_differ():
    colours = panels._colours(40, 0)[1:]
    assert colours.min() >= 0 and colours.max() <= 255
    distances = abs(colours[:, None] - colours[None]).max(axis=2)
    assert distances[np.eye(40, dtype=bool) == 0].min() > 5
    assert abs(np.diff(colours, axis=0)).max(axis=1).min() > 80


def test_the_sheet(dataset):
    before = {path: path.stat().st_mtime_ns for path in dataset.iterdir()}
    path = show.show(dataset)
    assert path == dataset / "toy-train.sheet.png"
    sheet = pixels(path)
    assert 600 < sheet.shape[0] < 3000 and 1500 < sheet.shape[1] < 2500
    assert (sheet[0] == 255).all() and (sheet[:, 0] == 255).all() and (sheet[:, -1] == 255).all()
    assert {other: before.get(other) for other in dataset.iterdir() if other != path} == before
    assert not any(verdict.problems for verdict in verify.verify(dataset))
    path.unlink()


def test_the_same_arguments_give_the_same_bytes(dataset, tmp_path):
    def sheet(**options):
        return show.show(dataset, output=tmp_path / "sheet.png", **options).read_bytes()

    one = sheet(num_images=2)
    assert sheet(num_images=2) == one
    assert sheet(num_images=2, seed=1) != one
    assert sheet(num_images=5) == sheet(num_images=100)
    assert list(tmp_path.iterdir()) == [tmp_path / "sheet.png"]


def test_photographs_are_drawn_as_they_are(tmp_path):
    record = make_record(0, (0, 1), 300, 400)
    folder = whole_datasets.write(tmp_path / "toy", [[record]])
    sheet = pixels(show.show(folder, output=tmp_path / "sheet.png"))
    size = layout.columns(2, 1)[0]
    shown = panels.prepare(record, {"layers": [{"name": "coarse"}, {"name": "fine"}]}, size)
    assert [panel.shape for panel in shown.panels] == [(size * 3 // 4, size, 3)] * 3
    photograph = records.decode_image(record.image)
    assert abs(shown.panels[0].mean(axis=(0, 1)) - photograph.mean(axis=(0, 1))).max() < 1
    for panel in shown.panels:
        height, width = panel.shape[:2]
        starts = np.argwhere((sheet[:-height, :-width] == panel[0, 0]).all(axis=-1))
        places = [(y, x) for y, x in starts if (sheet[y : y + height, x : x + width] == panel).all()]
        assert len(places) == 1
    assert shown.captions == ("400 × 300", "coarse: 1,899", "fine: 849")


def test_captions_name_class_and_maps():
    layers = {"layers": [{"name": "coarse"}, {"name": "fine"}], "classes": ["cat", "dog"]}
    shown = panels.prepare(make_record(0, label=1), layers, 100)
    assert shown.title == "folder/0.jpg"
    assert shown.captions == ("56 × 40, dog", "coarse: 34", "fine: 30 in 2 maps")
    assert panels.prepare(make_record(0, (1,)), layers, 100).captions == ("56 × 40", "coarse: 0", "fine: 34")


def test_statistics_of_a_record():
    maps = np.zeros((3, 4, 10), np.uint16)
    maps[0, :2] = 1
    maps[1, 0, :5] = 1
    maps[1, 2:, :5] = 2
    maps[2, 0, 4:6] = 1
    record = make_record(0, (), 4, 10, region_layers=(0, 2, 2), packed_regions=records.pack_regions(maps))
    num_regions, sizes, covered = statistics.count(record, 3)
    assert num_regions.tolist() == [1, 0, 3]
    assert [one.tolist() for one in sizes] == [[20], [], [5, 10, 2]]
    np.testing.assert_allclose(covered, [0.5, 0, 16 / 40])


def test_skipped_images_are_grouped_by_reason():
    skipped = [{"image_id": f"{i}.jpg", "reason": f"{i}x9 is more than 7 pixels"} for i in range(4)]
    skipped += [{"image_id": "a.jpg", "reason": "error 7"}, {"image_id": "b.jpg", "reason": "error 7"}]
    assert layout.skipped_lines(skipped) == [
        "skipped: 6",
        "4 × …x… is more than … pixels: 0.jpg, 1.jpg, 2.jpg, …",
        "2 × error 7: a.jpg, b.jpg",
    ]
    many = [{"image_id": "a.jpg", "reason": letter} for letter in "abcdefghijklm"]
    assert layout.skipped_lines(many)[-2:] == ["1 × j: a.jpg", "3 for 3 other reasons"]
    assert layout.skipped_lines([]) == []


@pytest.mark.parametrize(
    ("made", "layers"),
    [
        ([make_record(0, ())], ()),
        ([make_record(i, ()) for i in range(3)], ("coarse",)),
        ([make_record(0, (0, 1, 2, 3, 4))], ("a", "b", "c", "d", "e" * 100)),
        ([make_record(i, tuple(range(12))) for i in range(2)], tuple("abcdefghijkl")),
        ([make_record(0, (), 1, 1)], ()),
    ],
    ids=["no layers", "no regions", "five layers", "twelve layers", "one pixel"],
)
def test_any_dataset_has_a_sheet(tmp_path, made, layers):
    folder = whole_datasets.write(tmp_path / "toy", [made], layers=layers)
    height, width = pixels(show.show(folder)).shape[:2]
    assert 200 < height < 2000 and 800 < width < 3500


def test_long_text_is_shortened_in_its_middle():
    canvas = Canvas(400, 100)
    canvas.text(0, 50, "beginning/" + "x" * 500 + "/end.jpg", 200)
    canvas.text(0, 80, "short $a$\n", 200)
    long, short = (text.get_text() for text in canvas.figure.texts)
    assert long.startswith("beginning/x") and "x…x" in long and long.endswith("x/end.jpg")
    assert short == "short $a$\N{REPLACEMENT CHARACTER}"
    assert all(text.get_window_extent(canvas.renderer).width <= 200 for text in canvas.figure.texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": "missing"}, "missing: no such folder; create a dataset with `python -m data_prep"),
        ({"folder": "."}, "no dataset here; create a dataset with `python -m data_prep"),
        ({"split": "validation"}, "no split 'validation' here, only train"),
        ({"num_images": 0}, "--images=0 --seed=0: give at least one image"),
        ({"seed": -1}, "--images=12 --seed=-1: give at least one image and a seed of at least 0"),
        ({"output": Path("nowhere/sheet.png")}, "nowhere: no such folder; create it, or give another --output"),
        ({"output": Path("sheet.jpg")}, "sheet.jpg: the picture is a PNG; give a file name that ends in .png"),
    ],
)
def test_errors_are_one_line(dataset, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    options = {"folder": dataset} | options
    with pytest.raises(PrepError) as caught:
        show.show(Path(options.pop("folder")), **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_damage_is_named(dataset, tmp_path):
    folder = shutil.copytree(dataset, tmp_path / "toy")
    shard = folder / "toy-train.tfrecord-00001-of-00002"
    os.truncate(shard, 40)
    with pytest.raises(PrepError, match=f"{shard}: record 3 .byte 0.: .*; copy the shard again"):
        show.show(folder)
    (folder / "toy-train.json").unlink()
    with pytest.raises(PrepError, match="toy-train is unfinished; run the same data_prep command again"):
        show.show(folder)
    wrong = whole_datasets.write(tmp_path / "wrong", [[make_record(0, image=b"no image")]])
    with pytest.raises(PrepError, match="record 0 of toy-train: .*; data_prep.verify reports more"):
        show.show(wrong)


def test_too_tall_a_picture_is_refused(tmp_path, monkeypatch):
    folder = whole_datasets.write(tmp_path / "toy", [[make_record(i, (), 4, 4) for i in range(9)]], layers=())
    monkeypatch.setattr(layout, "MAX_SIDE", 600)
    with pytest.raises(PrepError, match="the picture would have .* pixels, but a side has at most 600; lower --images"):
        show.show(folder)


def test_the_command(dataset, tmp_path):
    arguments = [sys.executable, "-m", "data_prep.show", dataset, f"--output={tmp_path}/sheet.png", "--images=2"]
    result = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/sheet.png\n"), result.stderr
    assert result.stderr == "5 images\n"
    expected = show.show(dataset, output=tmp_path / "expected.png", num_images=2)
    assert (tmp_path / "sheet.png").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "the following arguments are required: DATASET"),
        (["x", "--images=two"], 2, "invalid int value: 'two'"),
        (["missing"], 1, "error: missing: no such folder; create a dataset with `python -m data_prep"),
        (["missing", "--images=0"], 1, "error: --images=0 --seed=0: give at least one image"),
    ],
)
def test_exit_statuses(arguments, status, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["show", *arguments])
    try:
        ended = show.main()
    except SystemExit as caught:
        ended = caught.code
    assert ended == status
    assert message in capsys.readouterr().err

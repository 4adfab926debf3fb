"""Composites of photographs, from scenes and cut-outs that the tests make."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import composites
from benchmarks.package_photographs import CLASSES, Photograph, cutouts, licence

COUNTS = (4, 6, 6)
KINDS = ("bird", "food")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Gray scenes, and objects each of one colour of its own."""
    folder = tmp_path_factory.mktemp("photographs")

    def photograph(name, kind, pixels):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        return Photograph(folder / f"{name}.png", name, kind, "a-package", folder)

    scenes = [
        photograph(f"{letter}scene", "scene", np.full((250, 340, 3), 10 * n, np.uint8))
        for n, letter in enumerate("abcdef")
    ]
    objects = []
    for n, letter in enumerate("abcdefgh"):
        pixels = np.zeros((120, 90, 4), np.uint8)
        pixels[5:-9, 11:-20] = (250 - 20 * n, 20 * n, 100, 255)
        objects.append(photograph(f"{letter}object", KINDS[n % 2], pixels))
    return scenes, objects


@pytest.fixture(scope="module")
def written(sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("written")
    composites.write(output, *sources, seed=3, counts=COUNTS)
    return output


def test_the_same_seed_gives_the_same_bytes(sources, written, tmp_path):
    composites.write(tmp_path / "again", *sources, seed=3, counts=COUNTS)
    composites.write(tmp_path / "other", *sources, seed=4, counts=COUNTS)
    first, again, other = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (written, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first != other


def test_truth_is_what_was_pasted(sources, monkeypatch):
    monkeypatch.setattr(composites, "BRIGHTNESS", (1, 1))
    scenes, objects = sources
    composer = composites.Composer(scenes, objects)
    for index in range(40):
        made = composer.compose((0, index))
        colours = [np.array(Image.open(made.scene.path).convert("RGB"))[0, 0]]
        colours += [np.array(Image.open(one.path))[60, 45, :3] for one in made.objects]
        # Along outlines, two colours are blended, the lower one with less than half.
        distance = np.abs(made.image.astype(int) - np.array(colours)[made.instances]).max(-1)
        assert np.mean(distance <= 1) > 0.8
        inside = np.ones_like(distance, bool)
        for shift in [(y, x) for y in range(-3, 4) for x in range(-3, 4)]:
            inside &= np.roll(made.instances, shift, (0, 1)) == made.instances
        assert distance[inside].max() <= 1
        present, pixels = np.unique(made.instances, return_counts=True)
        np.testing.assert_array_equal(present, np.arange(len(made.objects) + 1))
        assert 1 <= len(made.objects) <= 4
        assert pixels.min() >= 0.01 * made.instances.size
        kinds = ["background", *(one.kind for one in made.objects)]
        for instance, kind in enumerate(kinds):
            assert set(made.classes[made.instances == instance]) == {CLASSES.index(kind)}


def test_files_hold_the_image_and_its_truth(sources, written):
    composer = composites.Composer(*(composites.split(photographs, 3)[0] for photographs in sources))
    rows = json.loads((written / "probe_train.json").read_text())["composites"]
    assert list(rows) == [f"{index:05}.png" for index in range(6)]
    for index, (name, row) in enumerate(rows.items()):
        made = composer.compose((3, 1, index))
        np.testing.assert_array_equal(np.asarray(Image.open(written / "probe_train" / name)), made.image)
        for kind in ("instances", "classes"):
            truth = np.asarray(Image.open(written / f"probe_train_{kind}" / name))
            np.testing.assert_array_equal(truth, getattr(made, kind))
        assert row["objects"] == [{"class": CLASSES.index(one.kind), "name": one.name} for one in made.objects]


def test_what_is_tested_on_occurs_nowhere_else(written):
    used = {}
    for name in composites.SETS:
        rows = json.loads((written / f"{name}.json").read_text())["composites"].values()
        used[name] = {row["scene"] for row in rows} | {one["name"] for row in rows for one in row["objects"]}
    used["train"] |= {file.stem.split("-")[2] for file in (written / "train/photographs").iterdir()}
    assert used["probe_test"] and not used["probe_test"] & (used["train"] | used["probe_train"])


def test_files_that_may_show_the_same_thing_stay_together(sources):
    (one, *_), _ = sources
    names = [f"{word}-{n}" for word in ("gnu", "lion", "Owl", "owl", "rat") for n in range(2)]
    photographs = [Photograph(one.path, name, "bird", one.package, one.folder) for name in names]
    for seed in range(5):
        parts = [
            {photograph.name.split("-")[0].lower() for photograph in part}
            for part in composites.split(photographs, seed)
        ]
        assert not parts[0] & parts[1] and all(parts)


def test_a_missing_package_is_named_with_its_command(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="is missing; install the package tuxpaint-stamps-default: apt-get install .*mate-backgrounds",
    ):
        cutouts(tmp_path)


@pytest.mark.parametrize(("name", "stated"), [("Wood.jpg", "CC0-1.0"), ("Dune.jpg", "GPL-2+"), ("Odd.jpg", "GPL-2")])
def test_the_licence_is_that_of_the_last_stanza_that_matches(tmp_path, name, stated):
    copyright_file = tmp_path / "usr/share/doc/a-package/copyright"
    copyright_file.parent.mkdir(parents=True)
    copyright_file.write_text(
        "Format: x\n\nFiles: *\nCopyright: A\nLicense: GPL-2\n\nFiles: nature/Dune.jpg\n       nature/S*.jpg\n"
        "Copyright: B\nLicense: GPL-2+\n\nFiles: 16.04/Wood.jpg\nLicense: CC0-1.0\n text\n\nLicense: GPL-2\n text\n"
    )
    path = tmp_path / "usr/share/nature" / name
    assert licence(Photograph(path, name, "scene", "a-package", tmp_path)) == stated

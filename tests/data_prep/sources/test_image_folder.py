"""Folders of images as people have them: links, hidden files, files of other kinds."""

import pytest
import small_images

from data_prep.errors import PrepError
from data_prep.sources.image_folder import open_classes, open_folder


@pytest.fixture
def stored(tmp_path):
    """Two class folders outside of the image folder."""
    for name, count in (("cat", 3), ("dog", 2)):
        small_images.write(tmp_path / "stored" / name, count, 8, 8)
    (tmp_path / "images").mkdir()
    return tmp_path / "stored"


def labels(source) -> list[tuple[str, int]]:
    return [(item.image_id.partition("/")[0], item.label) for item in source.slice(0, source.num_images)]


def test_links_to_class_folders_are_followed(stored, tmp_path):
    images = tmp_path / "images"
    (images / "cat").symlink_to(stored / "cat")
    (images / "dog").symlink_to("../stored/dog")
    (images / "none").mkdir()
    source = open_classes(images, tmp_path / "out")
    assert labels(source) == 3 * [("cat", 0)] + 2 * [("dog", 1)]
    assert source.notes == ("3 classes: cat 3, dog 2, none 0",)
    data = [item.read() for item in source.slice(0, 5)]
    assert data == [path.read_bytes() for path in sorted(stored.rglob("*.jpg"))]


def test_links_that_lead_back_end_the_walk(stored, tmp_path):
    images = tmp_path / "images"
    (images / "all").symlink_to(stored)
    (stored / "up").symlink_to(tmp_path)
    (stored / "cat" / "self").symlink_to(".")
    (stored / "dog" / "other").symlink_to(stored / "cat")
    names = open_folder(images, tmp_path / "out").image_ids
    folders = {name.rpartition("/")[0] for name in names}
    assert {"all/cat", "all/dog", "all/dog/other"} <= folders
    assert all(name.count("/") < 8 for name in names)


def test_many_classes_are_summarised(tmp_path):
    for number in range(30):
        folder = tmp_path / "images" / f"n{number:02}"
        small_images.write(folder, 1 + number % 2, 8, 8)
    (tmp_path / "images" / "n30").mkdir()
    source = open_classes(tmp_path / "images", tmp_path / "out")
    assert source.notes == ("31 classes of 0 to 2 images; 1 without images: n30",)


def test_other_files_are_counted_and_never_read(stored, tmp_path):
    (stored / "cat" / "._0.jpg").write_bytes(b"Mac OS X")
    (stored / "list.txt").touch()
    (stored / "README").touch()
    source = open_folder(stored, tmp_path / "out")
    assert source.num_images == 5
    assert source.notes == ("files that are not images: 1 .txt, 1 hidden, 1 without suffix",)
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.dng").touch()
    with pytest.raises(PrepError, match="no images below .*found only: 1 .dng"):
        open_folder(only, tmp_path / "out")


def test_a_dataset_among_the_class_folders_is_no_class(stored):
    (stored / "dataset").mkdir()
    assert open_classes(stored, stored / "dataset").classes == ("cat", "dog")

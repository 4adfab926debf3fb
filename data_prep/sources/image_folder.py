"""Image sources backed by a folder: all its images, class folders, or the images in a COCO annotation file."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

from data_prep import coco_json, images
from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.sources.source import Item, input_file, input_files
from data_prep.storage.paths import AnyPath, is_below, subfolders

MOST_CLASSES = 20  # whose names are printed


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A source of the image files below a folder, in a fixed order.

    Attributes:
      kind: the source's kind, see `data_prep.sources.source.Source`.
      folder: the folder that contains the files.
      image_ids: the files' paths below the folder, with forward slashes.
      classes: the names of the class folders, if the first part of each path is its class.
      listed_in: the annotation file that lists the images, if there is one.
      notes: see `data_prep.sources.source.Source`.
    """

    kind: str
    folder: AnyPath
    image_ids: tuple[str, ...]
    classes: tuple[str, ...] = ()
    listed_in: AnyPath | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """The number of images."""
        return len(self.image_ids)

    def inputs(self) -> Iterator[Input]:
        """Yields the annotation file, if there is one, then every image, in order."""
        if self.listed_in is not None:
            yield input_file(self.listed_in, self.listed_in.name)
        yield from input_files(self.folder, self.image_ids)

    def slice(self, start: int, stop: int) -> "ImageFolderSlice":
        """Returns images number `start` to `stop` (exclusive)."""
        image_ids = self.image_ids[start:stop]
        number = dict(zip(self.classes, range(len(self.classes)), strict=True))
        labels = tuple(number[image_id.partition("/")[0]] if number else -1 for image_id in image_ids)
        return ImageFolderSlice(self.folder, image_ids, labels)


@dataclasses.dataclass(frozen=True)
class ImageFolderSlice:
    """Consecutive images of an `ImageFolder`, each with its label."""

    folder: AnyPath
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Item]:
        for image_id, label in zip(self.image_ids, self.labels, strict=True):
            yield Item(image_id, (self.folder / image_id).read_bytes, label)


def open_folder(folder: AnyPath, output: AnyPath) -> ImageFolder:
    """Opens all image files below a folder, except those in `output`, which may be inside it.

    Raises:
      PrepError: the folder is missing or contains no images.
    """
    image_ids, notes = _find(folder, output)
    return ImageFolder("folder", folder, image_ids, notes=notes)


def open_classes(folder: AnyPath, output: AnyPath) -> ImageFolder:
    """Opens all image files below a folder of class folders, laid out as in ImageNet.

    The classes are the sorted names of the folders directly below it and of links to folders, including folders without
    images, but not hidden ones and `output`.

    Raises:
      PrepError: the folder is missing or contains no images, or an image is not in a class folder.
    """
    image_ids, notes = _find(folder, output)
    loose = next((image_id for image_id in image_ids if "/" not in image_id), None)
    if loose is not None:
        raise PrepError(f"{folder / loose} is not in a class folder; move it into one, or omit --classes")
    names = (name for name in subfolders(folder) if not name.startswith(".") and not is_below(folder / name, output))
    classes = tuple(sorted(names))
    counts = dict.fromkeys(classes, 0) | Counter(image_id.partition("/")[0] for image_id in image_ids)
    return ImageFolder("classes", folder, image_ids, classes, notes=(_describe(counts), *notes))


def open_coco(folder: AnyPath, annotations: AnyPath) -> ImageFolder:
    """Opens the images that a COCO annotation file lists ("instances" or "image_info"), sorted by file name.

    Raises:
      PrepError: the folder or the file is missing, or the file is not a COCO annotation file or lists no images.
    """
    _check_folder(folder)
    listed = coco_json.entries(annotations, coco_json.parse(annotations), "images")
    names = {coco_json.image_path(image) for image in listed}
    if None in names:
        raise PrepError(f"{annotations} is not a COCO annotation file: an image has no 'file_name'")
    if not names:
        raise PrepError(f"{annotations} lists no images")
    outside = next((name for name in names if name.startswith("/") or ".." in name.split("/")), None)
    if outside is not None:
        raise PrepError(f"{annotations}: file_name {outside!r} is not below the image folder")
    return ImageFolder("coco", folder, tuple(sorted(names)), listed_in=annotations)


def _find(folder: AnyPath, output: AnyPath) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the image files below a folder, except those in `output`, and the notes about other files."""
    _check_folder(folder)
    image_ids, others = images.find(folder)
    listed = ", ".join(f"{count} {what}" for what, count in others.items())
    if {".heic", ".heif"} & others.keys():
        listed += " (to read .heic and .heif: pip install pillow-heif)"
    if is_below(output, folder):
        within = str(output.resolve()).removeprefix(str(folder.resolve())).strip("/") + "/"
        image_ids = tuple(image_id for image_id in image_ids if not image_id.startswith(within))
    if not image_ids:
        found = f", found only: {listed}" if others else ""
        raise PrepError(f"no images below {folder}; looked for {' '.join(sorted(images.SUFFIXES))}{found}")
    return image_ids, (f"files that are not images: {listed}",) if others else ()


def _describe(counts: dict[str, int]) -> str:
    """Describes the classes by their numbers of images."""
    if len(counts) <= MOST_CLASSES:
        return f"{len(counts)} classes: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    empty = [name for name, count in counts.items() if not count]
    note = f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} images"
    return note + (f"; {len(empty)} without images: {', '.join(empty[:MOST_CLASSES])}" if empty else "")


def _check_folder(folder: AnyPath) -> None:
    if not folder.is_dir():
        raise PrepError(f"{folder} is not a folder; give the folder that contains the images")

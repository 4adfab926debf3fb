"""Image sources backed by a folder: all its images, class folders, or the images in a COCO annotation file."""

import dataclasses
import json
from collections.abc import Iterator

from data_prep import images
from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.sources.source import Item, input_file, input_files
from data_prep.storage.paths import AnyPath, is_below, subfolders


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """A source of the image files below a folder, in a fixed order.

    Attributes:
      kind: the source's kind, see `data_prep.sources.source.Source`.
      folder: the folder that contains the files.
      image_ids: the files' paths below the folder, with forward slashes.
      classes: the names of the class folders, if the first part of each path is its class.
      listed_in: the annotation file that lists the images, if there is one.
    """

    kind: str
    folder: AnyPath
    image_ids: tuple[str, ...]
    classes: tuple[str, ...] = ()
    listed_in: AnyPath | None = None

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
    return ImageFolder("folder", folder, _find(folder, output))


def open_classes(folder: AnyPath, output: AnyPath) -> ImageFolder:
    """Opens all image files below a folder of class folders, laid out as in ImageNet.

    The classes are the sorted names of the folders directly below it, including folders without images.

    Raises:
      PrepError: the folder is missing or contains no images, or an image is not in a class folder.
    """
    image_ids = _find(folder, output)
    loose = next((image_id for image_id in image_ids if "/" not in image_id), None)
    if loose is not None:
        raise PrepError(f"{folder / loose} is not in a class folder; move it into one, or omit --classes")
    classes = tuple(sorted(name for name in subfolders(folder) if not name.startswith(".")))
    known = set(classes)
    hidden = next((image_id for image_id in image_ids if image_id.partition("/")[0] not in known), None)
    if hidden is not None:
        raise PrepError(f"{folder / hidden} is in a hidden folder; move it, or omit --classes")
    return ImageFolder("classes", folder, image_ids, classes)


def open_coco(folder: AnyPath, annotations: AnyPath) -> ImageFolder:
    """Opens the images that a COCO annotation file lists ("instances" or "image_info"), sorted by file name.

    Raises:
      PrepError: the folder or the file is missing, or the file is not a COCO annotation file or lists no images.
    """
    _check_folder(folder)
    try:
        with annotations.open("rb") as file:
            listed = json.load(file)["images"]
        names = {str(image["file_name"]) for image in listed}
    except OSError as error:
        raise PrepError(f"{annotations} cannot be read: {error.strerror}; give a COCO annotation file") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrepError(
            f"{annotations} is not a COCO annotation file: it needs a list 'images' of entries with 'file_name'"
        ) from error
    if not names:
        raise PrepError(f"{annotations} lists no images")
    outside = next((name for name in names if name.startswith("/") or ".." in name.split("/")), None)
    if outside is not None:
        raise PrepError(f"{annotations}: file_name {outside!r} is not below the image folder")
    return ImageFolder("coco", folder, tuple(sorted(names)), listed_in=annotations)


def _find(folder: AnyPath, output: AnyPath) -> tuple[str, ...]:
    _check_folder(folder)
    image_ids = tuple(images.find(folder))
    if is_below(output, folder):
        within = str(output.resolve()).removeprefix(str(folder.resolve())).strip("/") + "/"
        image_ids = tuple(image_id for image_id in image_ids if not image_id.startswith(within))
    if not image_ids:
        raise PrepError(f"no images below {folder}; looked for {' '.join(sorted(images.SUFFIXES))}")
    return image_ids


def _check_folder(folder: AnyPath) -> None:
    if not folder.is_dir():
        raise PrepError(f"{folder} is not a folder; give the folder that contains the images")

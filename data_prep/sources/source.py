"""The interface of an image source: a known number of images, cut into slices that any process can read."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from data_prep.dataset.inputs import Input
from data_prep.storage.paths import AnyPath, file_status, file_statuses
from data_prep.storage.remote import Status


@dataclasses.dataclass(frozen=True)
class Item:
    """One image of a source, not yet read.

    Attributes:
      image_id: the image's path below the image folder, or the source's own id.
      read: a function that returns the bytes of the image file; raises OSError if they cannot be read.
      label: the index of the image's class, -1 if it has none.
      beside: a function that returns the bytes of the file with the image's name and a given suffix; raises
        FileNotFoundError if there is none. None for sources that do not store annotations next to images.
    """

    image_id: str
    read: Callable[[], bytes]
    label: int = -1
    beside: Callable[[str], bytes] | None = None


@runtime_checkable
class Slice(Protocol):
    """Consecutive images of a source; small and picklable."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


@runtime_checkable
class Source(Protocol):
    """A collection of images in an order that does not change.

    Attributes:
      kind: a word for the kind of source, recorded with the dataset.
      num_images: the number of images.
      classes: the names of the classes that labels index; empty if images have no labels.
      notes: lines about the source that the command prints with its summary.
    """

    kind: str
    num_images: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def inputs(self) -> Iterator[Input]:
        """Yields the files that the source reads, in a fixed order."""

    def slice(self, start: int, stop: int) -> Slice:
        """Returns images number `start` to `stop` (exclusive)."""


def raise_unreadable(reason: str) -> bytes:
    """Raises the error of an image that is known to be corrupt; used as its `Item.read`.

    Raises:
      OSError: always.
    """
    raise OSError(reason)


def input_file(path: AnyPath, name: str) -> Input:
    """Returns the name, size and modification time of a file."""
    return _input(name, file_status(path))


def input_files(folder: AnyPath, names: Sequence[str]) -> Iterator[Input]:
    """Yields the name, size and modification time of each of some files below a folder."""
    return map(_input, names, file_statuses(folder, names))


def _input(name: str, status: os.stat_result | Status | None) -> Input:
    if status is None:  # missing, or a broken symbolic link
        return Input(name, -1, 0)
    return Input(name, status.st_size, status.st_mtime_ns)

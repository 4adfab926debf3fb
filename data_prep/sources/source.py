"""What a source of images is: a known number of images, cut into slices that any process can read alone."""

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
      image_id: path below the image folder, or the source's own id.
      read: gives the bytes of the image file; raises OSError if they cannot be read.
      label: index of its class, -1 if it has none.
      beside: for sources that keep annotations with an image: gives the bytes of the file that has the image's name
        and this suffix; raises FileNotFoundError if there is none. None for sources that do not.
    """

    image_id: str
    read: Callable[[], bytes]
    label: int = -1
    beside: Callable[[str], bytes] | None = None


@runtime_checkable
class Slice(Protocol):
    """Consecutive images of a source; small, and picklable."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


@runtime_checkable
class Source(Protocol):
    """Images, in an order that does not change.

    Attributes:
      kind: a word for what it is, recorded with the dataset.
      num_images: how many images it has.
      classes: names of the classes that labels index; none if images have no labels.
    """

    kind: str
    num_images: int
    classes: tuple[str, ...]

    def inputs(self) -> Iterator[Input]:
        """The files that it reads, in a fixed order."""

    def slice(self, start: int, stop: int) -> Slice:
        """The images from number `start` to `stop`, which is excluded."""


def unreadable(reason: str) -> bytes:
    """`Item.read` of an image that is known to be damaged.

    Raises:
      OSError: always.
    """
    raise OSError(reason)


def input_file(path: AnyPath, name: str) -> Input:
    """Looks a file up."""
    return _input(name, file_status(path))


def input_files(folder: AnyPath, names: Sequence[str]) -> Iterator[Input]:
    """Looks files below a folder up."""
    return map(_input, names, file_statuses(folder, names))


def _input(name: str, status: os.stat_result | Status | None) -> Input:
    if status is None:  # a link to nowhere
        return Input(name, -1, 0)
    return Input(name, status.st_size, status.st_mtime_ns)

"""A folder of region files, each of which is found by the name of its image."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.sources.source import input_files
from data_prep.storage.paths import AnyPath, lexists, walk_files


def check(folder: AnyPath) -> None:
    """Checks that a folder exists.

    Raises:
      PrepError: it does not.
    """
    if not folder.is_dir():
        raise PrepError(f"{folder} is not a folder; give the folder that contains the regions")


def inputs(folder: AnyPath, suffixes: Sequence[str]) -> Iterator[Input]:
    """Yields the files below a folder with one of these suffixes, sorted by their path below it.

    Raises:
      PrepError: the folder is missing.
    """
    check(folder)
    names = (name for name in walk_files(folder) if PurePosixPath(name).suffix.lower() in suffixes)
    return input_files(folder, sorted(names))


def find(folder: AnyPath, image_id: str, suffixes: Sequence[str], endings: Sequence[str] = ()) -> AnyPath:
    """Returns the file that has the image's path, or else only its base name, with one of these suffixes.

    A suffix may be in upper case, and may follow that of the image (a.jpg.png).

    Args:
      folder: the folder of the files.
      image_id: the image's path below its own folder.
      suffixes: the suffixes, in lower case.
      endings: endings of a file's name before its suffix that may replace that of the image: "_gtFine_labelIds" finds
        a_gtFine_labelIds.png for a_leftImg8bit.png, and "_seg" finds a_seg.png for a.jpg.

    Raises:
      BadImage: there is no such file, or there are files with several of the suffixes.
    """
    path = PurePosixPath(image_id)
    stem = path.with_suffix("")
    stems = [stem, path, *(stem.with_name(stem.name.removesuffix("_leftImg8bit") + ending) for ending in endings)]
    names = dict.fromkeys(str(place) for one in stems for place in (one, one.name))
    for name, variants in itertools.product(names, (suffixes, [suffix.upper() for suffix in suffixes])):
        found = [file for suffix in variants if lexists(file := folder / f"{name}{suffix}")]
        if len(found) > 1:
            raise BadImage(f"{' and '.join(file.name for file in found)} both exist; only one may")
        if found:
            return found[0]
    raise BadImage(f"no {' or '.join(path.with_suffix(suffix).as_posix() for suffix in suffixes)} in {folder}")


def read(path: AnyPath) -> bytes:
    """Returns the bytes of one image's file.

    Raises:
      BadImage: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"{path.name} cannot be read: {error.strerror}") from error

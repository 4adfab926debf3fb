"""Files of regions in a folder: found by the name of their image."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.sources.source import input_files
from data_prep.storage.paths import AnyPath, lexists, walk_files


def check(folder: AnyPath) -> None:
    """Refuses a folder that is not there.

    Raises:
      PrepError: says so.
    """
    if not folder.is_dir():
        raise PrepError(f"{folder} is not a folder; give the folder that holds the regions")


def inputs(folder: AnyPath, suffixes: Sequence[str]) -> Iterator[Input]:
    """Files below a folder with one of these suffixes, sorted by their path below it.

    Raises:
      PrepError: the folder is missing.
    """
    check(folder)
    return input_files(folder, sorted(name for name in walk_files(folder) if PurePosixPath(name).suffix in suffixes))


def find(folder: AnyPath, image_id: str, suffixes: Sequence[str]) -> AnyPath:
    """The file that has the image's path, or else its base name alone, with one of these suffixes.

    Raises:
      BadImage: there is none, or one with each of several suffixes.
    """
    with_path = PurePosixPath(image_id)
    for stem in dict.fromkeys((with_path, PurePosixPath(with_path.name))):
        found = [path for suffix in suffixes if lexists(path := folder / str(stem.with_suffix(suffix)))]
        if len(found) > 1:
            raise BadImage(f"{' and '.join(path.name for path in found)} are both there; only one may be")
        if found:
            return found[0]
    raise BadImage(f"no {' or '.join(with_path.with_suffix(suffix).as_posix() for suffix in suffixes)} in {folder}")


def read(path: AnyPath) -> bytes:
    """The bytes of one image's file.

    Raises:
      BadImage: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"{path.name} cannot be read: {error.strerror}") from error

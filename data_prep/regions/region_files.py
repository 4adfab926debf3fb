"""A folder of region files, each of which is found by the name of its image."""

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
    return input_files(folder, sorted(name for name in walk_files(folder) if PurePosixPath(name).suffix in suffixes))


def find(folder: AnyPath, image_id: str, suffixes: Sequence[str]) -> AnyPath:
    """Returns the file that has the image's path, or else only its base name, with one of these suffixes.

    Raises:
      BadImage: there is no such file, or there are files with several of the suffixes.
    """
    with_path = PurePosixPath(image_id)
    for stem in dict.fromkeys((with_path, PurePosixPath(with_path.name))):
        found = [path for suffix in suffixes if lexists(path := folder / str(stem.with_suffix(suffix)))]
        if len(found) > 1:
            raise BadImage(f"{' and '.join(path.name for path in found)} both exist; only one may")
        if found:
            return found[0]
    raise BadImage(f"no {' or '.join(with_path.with_suffix(suffix).as_posix() for suffix in suffixes)} in {folder}")


def read(path: AnyPath) -> bytes:
    """Returns the bytes of one image's file.

    Raises:
      BadImage: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadImage(f"{path.name} cannot be read: {error.strerror}") from error

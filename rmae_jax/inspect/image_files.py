"""The image files of a page, read as photographs."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep import images
from rmae_jax.photographs import Photograph, check_size, view

MAX_PHOTOGRAPHS = 36
MAX_PIXELS = 100_000_000  # of a file


def load_photographs(
    paths: Sequence[str | Path],
    image_size: int,
    patch_size: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Photograph]:
    """Reads image files, each seen as by `view`.

    Args:
      paths: files, folders (all images below), or patterns such as `photos/*.jpg`.
      image_size: of the shorter side, in pixels.
      patch_size: of the model.
      report: called with the number of files read and that of all.

    Raises:
      ValueError: a file is no image, a folder has none, there are more than 36, or the size does not fit.
      OSError: a file cannot be read.
    """
    check_size(image_size, patch_size)
    files, read = _find(paths), []
    if len(files) > MAX_PHOTOGRAPHS:
        raise ValueError(f"{len(files)} images; at most {MAX_PHOTOGRAPHS} are looked at together, name fewer")
    for done, file in enumerate(files):
        report(done, len(files))
        try:
            _, pixels = images.load(file.read_bytes(), MAX_PIXELS)
        except images.BadImage as error:
            raise ValueError(f"{file}: {error}") from error
        read.append(view(file.name, pixels, image_size, patch_size))
    report(len(files), len(files))
    return read


def _find(paths: Sequence[str | Path]) -> list[Path]:
    """Files that paths, folders and patterns name, each once."""
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = [path / name for name in images.find(path)]
            if not found:
                raise ValueError(f"{path}: no images in this folder ({', '.join(sorted(images.SUFFIXES))})")
        elif path.exists():
            found = [path]
        else:
            found = [Path(name) for name in sorted(glob.glob(str(path)))]
            if not found:
                raise ValueError(f"{path}: no such file or folder")
        files |= dict.fromkeys(found)
    return list(files)

"""Reading of image files as photographs."""

import glob
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep import images
from data_prep.storage.paths import local_path
from rmae_jax.photographs import Photograph, check_size, view

MAX_PHOTOGRAPHS = 36
MAX_PIXELS = 100_000_000  # of one file


def load_photographs(
    paths: Sequence[str | Path],
    image_size: int,
    patch_size: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    skipped: Callable[[str], None] = warnings.warn,
) -> list[Photograph]:
    """Reads image files and prepares each one with `view`.

    Args:
      paths: files, folders (all images in them and below), or patterns such as `photos/*.jpg`.
      image_size: length of the shorter side, in pixels.
      patch_size: the model's patch size, in pixels.
      report: called with the number of files read and their total.
      skipped: called with a message for each file that is skipped because it cannot be read.

    Raises:
      ValueError: no file can be read, a folder has no images, there are more than 36 images, or the size is invalid.
    """
    check_size(image_size, patch_size)
    files, read = _find(paths), []
    if len(files) > MAX_PHOTOGRAPHS:
        raise ValueError(f"{len(files)} images; the limit is {MAX_PHOTOGRAPHS}, select fewer")
    for done, file in enumerate(files):
        report(done, len(files))
        try:
            _, pixels = images.load(file.read_bytes(), MAX_PIXELS)
        except (images.BadImage, OSError) as error:
            message = f"{file}: {getattr(error, 'strerror', None) or error}"
            if len(files) == 1:
                raise ValueError(message) from error
            skipped(f"{message}; skipped")
            continue
        read.append(view(file.name, pixels, image_size, patch_size))
    report(len(files), len(files))
    if not read:
        raise ValueError(f"none of the {len(files)} files can be read as an image")
    return read


def _find(paths: Sequence[str | Path]) -> list[Path]:
    """Lists the files that paths, folders and patterns name, each once."""
    files: dict[Path, None] = {}
    for path in map(local_path, paths):
        if path.is_dir():
            found = [path / name for name in images.find(path).names]
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

"""Photographs as a model looks at them: any file that data_prep takes, at any size, with its regions."""

import dataclasses
import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep import felzenszwalb, images
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import whole
from rmae_jax.data.nearest import resize_nearest

MAX_PHOTOGRAPHS = 36
MAX_PIXELS = 100_000_000  # of a file
MAX_PATCHES = 4096  # of a photograph; the memory of attention grows with their square
LONGEST_ASPECT = 2  # of what is looked at; more would be mostly patches far from each other
REGIONS_AT = 640  # pixels of the longer side: the size of COCO's photographs, for which the scales were chosen


@dataclasses.dataclass(frozen=True)
class Photograph:
    """What is looked at of a photograph.

    Attributes:
      name: of the file.
      image: uint8 RGB, both sides multiples of the patch size.
      layers: its Felzenszwalb-Huttenlocher regions at three scales, labels from 1.
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    layers: UInt16[np.ndarray, "scales height width"]


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


def view(name: str, pixels: UInt8[np.ndarray, "height width 3"], image_size: int, patch_size: int) -> Photograph:
    """A photograph with its shorter side resized to `image_size`, and its middle cut out.

    The longer side keeps the photograph's aspect, up to twice the shorter, and is cut to a multiple of the patch size.
    Regions are found in the photograph reduced to 640 pixels (never enlarged), then resized and cut with it.

    Raises:
      ValueError: the size does not fit the patches.
    """
    check_size(image_size, patch_size)
    height, width = pixels.shape[:2]
    layers = felzenszwalb.layers(_resized(pixels, min(1.0, REGIONS_AT / max(height, width))))
    scale = image_size / min(height, width)
    resized = max(image_size, round(height * scale)), max(image_size, round(width * scale))
    kept = [min(side, LONGEST_ASPECT * image_size) // patch_size * patch_size for side in resized]
    middle = tuple(
        slice((side - part) // 2, (side - part) // 2 + part) for side, part in zip(resized, kept, strict=True)
    )
    image = resize_bicubic(pixels, whole(height, width), *resized)[middle]
    return Photograph(name, image, resize_nearest(layers, whole(*layers.shape[1:]), *resized)[:, *middle])


def check_size(image_size: int, patch_size: int) -> None:
    """Checks that images of which this is the shorter side can be cut into patches, and not into too many.

    Raises:
      ValueError: they cannot.
    """
    if image_size < 1 or image_size % patch_size:
        near = max(1, round(image_size / patch_size)) * patch_size
        raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}; {near} is")
    patches = LONGEST_ASPECT * (image_size // patch_size) ** 2
    if patches > MAX_PATCHES:
        raise ValueError(f"image size {image_size} may give {patches} patches; at most {MAX_PATCHES} are possible")


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


def _resized(pixels: UInt8[np.ndarray, "height width 3"], scale: float) -> UInt8[np.ndarray, "h w 3"]:
    height, width = pixels.shape[:2]
    if scale == 1:
        return pixels
    return resize_bicubic(pixels, whole(height, width), max(1, round(height * scale)), max(1, round(width * scale)))

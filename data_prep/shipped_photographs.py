"""The photographs inside the scikit-image package: a small dataset that needs no download.

Colour: astronaut, chelsea (a cat), coffee, hubble_deep_field, ihc (stained tissue under the microscope),
motorcycle_left, retina, rocket. Gray: brick, camera (a cameraman), coins, grass, gravel, moon. Omitted: drawings,
silhouettes, text, and motorcycle_right, which shows the same scene as motorcycle_left.
"""

import os
from importlib import resources
from pathlib import Path

from PIL import Image

from data_prep.storage.atomic_write import atomic_write

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
TRAIN_FRACTION = 0.75
SMALLEST_SIDE = 128
LARGEST_SIDE = 512  # without it, two large photographs would dominate the time to prepare and read the dataset


def write(folder: Path) -> None:
    """Writes the photographs as PNG files, each cut in two, to folder/train and folder/validation.

    The first three quarters along the longer side (the left part unless the photograph is taller than wide) are for
    training and the rest for validation, so no pixel is in both. Parts narrower than 128 pixels are skipped: coins and
    chelsea have none for validation. Parts with a side above 512 pixels are reduced to that.

    Raises:
      OSError: the folder cannot be written.
    """
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True, exist_ok=True)
    for name in PHOTOGRAPHS:
        with resources.as_file(resources.files("skimage.data") / name) as path, Image.open(path) as photograph:
            width, height = photograph.size
            if width >= height:
                cut = round(width * TRAIN_FRACTION)
                boxes = {"train": (0, 0, cut, height), "validation": (cut, 0, width, height)}
            else:
                cut = round(height * TRAIN_FRACTION)
                boxes = {"train": (0, 0, width, cut), "validation": (0, cut, width, height)}
            for split, box in boxes.items():
                part, file = photograph.crop(box), folder / split / f"{Path(name).stem}.png"
                if min(part.size) < SMALLEST_SIDE:
                    continue
                if not file.exists():
                    part.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
                    with atomic_write(file, folder) as out:
                        part.save(out, "PNG")
                os.utime(file, (0, 0))  # fixed: after a run folder is copied, these files count as unchanged

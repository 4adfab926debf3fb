"""Images for tests of whole data_prep jobs, and the files that jobs write."""

from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path, count: int, height: int = 48, width: int = 64) -> Path:
    """Writes 00.jpg, 01.jpg, ...: noise at an eighth of the size, enlarged, so that it has regions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        blocks = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        blocks.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

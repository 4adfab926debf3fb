"""Small datasets whose truth is known: squares of a class's colour on gray, in class folders and in label maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets_of_classes import CLASSES, COLOURS, photograph

from data_prep import job


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> Path:
    """Photographs in class folders, with instances and classes of pixels: splits train and validation."""
    folder = tmp_path_factory.mktemp("labelled")
    for split, count, seed in (("train", 24, 0), ("validation", 12, 1)):
        for number in range(count):
            rng, kind = np.random.default_rng((seed, number)), number % CLASSES
            image, inside = photograph(rng, COLOURS[kind])
            name = f"class{kind}/{number}.png"
            for what, array in (
                ("images", image),
                ("instances", inside.astype(np.uint8)),
                ("classes", np.where(inside, 1 + kind, 0).astype(np.uint8)),
            ):
                path = folder / split / what / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
        job.prepare(
            folder / split / "images",
            folder / "dataset",
            split=split,
            classes=True,
            regions=f"label_maps:{folder / split / 'instances'},semantic:{folder / split / 'classes'}",
            workers=1,
        )
    return folder / "dataset"


@pytest.fixture(scope="session")
def photographs_without(labelled, tmp_path_factory) -> Path:
    """The photographs of the validation split alone: no classes, no regions."""
    folder = tmp_path_factory.mktemp("without")
    job.prepare(labelled.parent / "validation" / "images", folder, regions="none", workers=1)
    return folder

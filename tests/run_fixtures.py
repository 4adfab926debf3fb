"""Fixtures of tests that train: a small dataset, a recipe of a few seconds, and its command line."""

from pathlib import Path

import ml_collections
import pytest
import skimage.data
import small_recipe
from PIL import Image

from configs import rmae_tiny
from data_prep import job

SMALL = small_recipe.SMALL | {"batch_size": 8, "steps": 12, "warmup_steps": 2, "log_every": 2, "checkpoint_every": 3}


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Six crops of real photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "coffee", "rocket"):
        image = Image.fromarray(getattr(skimage.data, name)())
        for left in (0, 200):
            image.crop((left, 100, left + 120, 220)).save(folder / f"{name}_{left}.jpg")
    return folder


@pytest.fixture(scope="session")
def dataset(photographs, tmp_path_factory) -> Path:
    """The crops with their regions."""
    folder = tmp_path_factory.mktemp("dataset")
    job.prepare(photographs, folder, scales=(50, 100), workers=1)
    return folder


@pytest.fixture(scope="session")
def dataset_without_regions(photographs, tmp_path_factory) -> Path:
    """The crops alone."""
    folder = tmp_path_factory.mktemp("without")
    job.prepare(photographs, folder, regions="none", workers=1)
    return folder


@pytest.fixture
def config(dataset) -> ml_collections.ConfigDict:
    """A recipe of a few seconds."""
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict(SMALL | {"data.path": str(dataset)})
    return config


@pytest.fixture
def command(dataset):
    """Arguments of main.py for that recipe."""

    def arguments(workdir: Path, **changes) -> list[str]:
        keys = SMALL | {"data.path": str(dataset)} | {key.replace("__", "."): v for key, v in changes.items()}
        flags = [f"--config.{key}={value}" for key, value in keys.items()]
        return ["main.py", "--config=configs/rmae_tiny.py", f"--workdir={workdir}", *flags]

    return arguments

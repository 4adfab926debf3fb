from pathlib import Path

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image
from small_recipe import SMALL
from toy import randomised

import rmae_jax
from configs import rmae_tiny
from data_prep import job
from rmae_jax.inspect import Photograph, view
from rmae_jax.model import RMAE


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Three photographs: one wide, one square, one tall."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, box in (("astronaut", (0, 0, 300, 200)), ("coffee", (0, 0, 200, 200)), ("rocket", (200, 0, 340, 400))):
        Image.fromarray(getattr(skimage.data, name)()).crop(box).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def photographs(folder) -> list[Photograph]:
    """The three as a toy model looks at them."""
    return [view(path.name, np.asarray(Image.open(path)), 32, 8) for path in sorted(folder.iterdir())]


@pytest.fixture
def model() -> RMAE:
    """A toy far from its initial weights."""
    return randomised()


@pytest.fixture(scope="session")
def run(folder, tmp_path_factory) -> Path:
    """Two steps of training."""
    dataset, run = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("runs") / "small"
    job.prepare(folder, dataset, scales=(50, 100), workers=1)
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict(SMALL | {"data.path": str(dataset)})
    rmae_jax.pretrain(config, run)
    jax.clear_caches()
    return run

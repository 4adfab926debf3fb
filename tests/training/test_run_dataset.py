import numpy as np
import pytest
import small_images
from PIL import Image

from configs import rmae_tiny
from data_prep import job, shipped_photographs
from rmae_jax import data
from rmae_jax.training import loop
from rmae_jax.training.run_dataset import check_regions, dataset_folder


def test_the_photographs_that_need_no_download(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped_photographs, "PHOTOGRAPHS", ("coffee.png",))
    for _ in range(2):  # the second time, they are there
        folder = dataset_folder(rmae_tiny.get_config(), tmp_path)
        for split in ("train", "validation"):
            (record,) = data.TFRecordSource(folder, split)
            assert record.image_id == "coffee.png"
            assert max(record.num_regions) > 1


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Four images; one of them has one region in the only layer of train, and none has any in that of empty."""
    folder = tmp_path_factory.mktemp("sparse")
    small_images.write(folder / "images", 4, 16, 16)
    for split, count in (("train", 1), ("empty", 0)):
        for number in range(4):
            labels = np.zeros((16, 16), np.uint8)
            labels[:4] = number < count
            (folder / split).mkdir(exist_ok=True)
            Image.fromarray(labels).save(folder / split / f"{number:02}.png")
        regions = f"label_maps:{folder / split}"
        job.prepare(folder / "images", folder / "data", split=split, regions=regions, workers=1)
    return folder / "data"


def test_a_dataset_with_hardly_any_region_is_reported(sparse, capsys):
    check_regions(data.TFRecordSource(sparse, "train"))
    assert "split 'train' has only 0.25 regions per image in its layers (label_maps)" in capsys.readouterr().out


def test_a_dataset_without_any_region_is_refused_unless_the_objective_needs_none(sparse, tmp_path, monkeypatch):
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict({"data.path": str(sparse), "data.split": "empty", "data.picture_split": "train"})
    monkeypatch.setattr(loop, "SamplePictures", lambda *arguments, **options: pytest.fail("goes on"))
    with pytest.raises(data.DatasetError, match="split 'empty' has no regions in its layers .label_maps.; check"):
        loop.pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.model.objective = "mae"
    with pytest.raises(pytest.fail.Exception, match="goes on"):
        loop.pretrain(config, tmp_path / "run")

from configs import rmae_tiny
from data_prep import shipped_photographs
from rmae_jax import data
from rmae_jax.training.run_dataset import dataset_folder


def test_the_photographs_that_need_no_download(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped_photographs, "PHOTOGRAPHS", ("coffee.png",))
    for _ in range(2):  # the second time, they are there
        folder = dataset_folder(rmae_tiny.get_config(), tmp_path)
        for split in ("train", "validation"):
            (record,) = data.TFRecordSource(folder, split)
            assert record.image_id == "coffee.png"
            assert max(record.num_regions) > 1

import json
import re
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rmae_jax
from rmae_jax import data
from rmae_jax.data import DatasetError
from rmae_jax.model import Mask
from rmae_jax.training import ConfigError, TrainingError, metrics, pretrain


def test_a_run_leaves_what_it_promises(config, tmp_path, capsys):
    run = tmp_path / "run"
    state = pretrain(config, run)
    assert int(state.step) == 12
    lines = metrics.read(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    for line in lines:
        assert set(line) == {"step", "loss", "pixel_loss", "region_loss", "learning_rate", "images_per_second"}
        assert line["images_per_second"] > 0
    assert lines[0]["learning_rate"] == pytest.approx(config.base_lr * config.batch_size / 256 / 2)
    assert json.loads((run / "config.json").read_text()) == config.to_dict()
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.name.isdigit()) == ["12", "6", "9"]
    for picture in (run / "losses.png", run / "pictures" / "0000012.png"):
        with Image.open(picture) as drawn:
            assert np.asarray(drawn.convert("L")).std() > 10
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert "step 12/12  loss" in capsys.readouterr().out

    # The weights come back.
    model, loaded = rmae_jax.load(run)
    assert loaded.to_dict() == config.to_dict()
    assert np.array_equal(model.pixel_head.kernel[...], state.params["pixel_head"]["kernel"])
    older, _ = rmae_jax.load(run / "checkpoints" / "9")
    assert not np.array_equal(older.pixel_head.kernel[...], model.pixel_head.kernel[...])
    images, maps = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 3, 32, 32))
    assert np.isfinite(model(images, maps, Mask.random(jax.random.key(0), 1, 16, 0.75)).loss)

    # Running it again does nothing; with another recipe it is refused.
    assert int(pretrain(config, run).step) == 12
    assert "is complete (12 steps)" in capsys.readouterr().out
    config.base_lr = 1.0
    with pytest.raises(ConfigError, match="base_lr"):
        pretrain(config, run)


def test_mae_needs_no_regions_and_the_others_do(config, dataset_without_regions, tmp_path):
    config.data.path, config.steps, config.warmup_steps = str(dataset_without_regions), 2, 1
    with pytest.raises(DatasetError, match="no region maps.*--regions=fh"):
        pretrain(config, tmp_path / "rmae")
    assert not (tmp_path / "rmae").exists()
    config.model.objective = "mae"
    pretrain(config, tmp_path / "mae")
    (line,) = metrics.read(tmp_path / "mae" / "metrics.jsonl")
    assert set(line) == {"step", "loss", "pixel_loss", "learning_rate", "images_per_second"}


def test_a_loss_that_is_not_finite_ends_the_run(config, tmp_path):
    """The images listed are those that a new stream of batches has at that step."""
    config.base_lr = 1e30
    message = r"loss is (nan|inf) at step (\d+); (.*); .*checkpoint.*smaller --config.base_lr"
    with pytest.raises(TrainingError, match=message) as caught:
        pretrain(config, tmp_path)
    _, step, images = re.search(message, str(caught.value)).groups()
    source = data.TFRecordSource(config.data.path)
    options = {"seed": config.seed, "batch_size": 8, "image_size": 32, "num_regions": 0}
    with closing(data.batches(source, **options, start_step=int(step) - 1)) as stream:
        ids = [source[record].image_id for record in next(stream)["record"]]
    listed = tmp_path / f"nonfinite-{step}.txt"
    assert listed.read_text().splitlines() == ids
    assert images == f"the first images of its batch are {', '.join(ids[:3])}; all 8 are listed in {listed}"
    steps = [int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    for step in steps:  # none of a bad state
        model, _ = rmae_jax.load(tmp_path / "checkpoints" / str(step))
        assert np.isfinite(model.pixel_head.kernel[...]).all()


def test_a_truncated_shard_is_named_before_anything_is_written(config, dataset, tmp_path):
    copy = tmp_path / "dataset"
    copy.mkdir()
    for file in dataset.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    shard = next(copy.glob("*.tfrecord-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    config.data.path = str(copy)
    with pytest.raises(DatasetError, match=f"{shard.name}.*truncated"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data.path": "/nowhere"}, DatasetError, "/nowhere"),
        ({"data.split": "test"}, DatasetError, "test.*train"),
        ({"model.patch_size": 7}, ConfigError, "model.patch_size 7"),
        ({"batch_size": 0}, ConfigError, "batch_size 0"),
    ],
)
def test_what_cannot_work_is_named_before_anything_is_written(config, tmp_path, changes, error, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(error, match=message):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""What is there already is never lost: by overwriting, by damage, by a source or an output in the wrong place."""

import json
import os
import shutil

import numpy as np
import pytest
import small_images
from small_images import contents

from data_prep import job as jobs
from data_prep import shards
from rmae_jax.data import TFRecordSource

OPTIONS = {"scales": (20, 60), "shards": 3, "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six small images, upsampled noise."""
    return small_images.write(tmp_path_factory.mktemp("images"), 6)


@pytest.fixture(scope="module")
def original(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("dataset") / "out"
    jobs.prepare(folder, output, **OPTIONS)
    return output


@pytest.fixture
def dataset(original, tmp_path):
    return shutil.copytree(original, tmp_path / "out")


def test_regions_are_summed_for_each_layer(original):
    source = TFRecordSource(original)
    sums = np.sum([source[number].num_regions for number in range(len(source))], axis=0)
    assert source.metadata["num_regions"] == sums.tolist() and sums[0] != sums[1]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dataset_cannot_replace_the_images_that_it_is_made_from(dataset, overwrite):
    before = contents(dataset)
    with pytest.raises(jobs.PrepError, match="holds the images of --tfds; give another --output"):
        jobs.prepare(None, dataset, tfds=f"{dataset}:train", overwrite=overwrite, **OPTIONS)
    assert contents(dataset) == before


def test_a_job_that_cannot_begin_deletes_nothing(folder, dataset, tmp_path):
    (tmp_path / "bad.json").write_text("junk")
    before = contents(dataset)
    with pytest.raises(jobs.PrepError, match="bad.json is not JSON"):
        jobs.prepare(folder, dataset, regions=f"instances:{tmp_path / 'bad.json'}", workers=1, overwrite=True)
    assert contents(dataset) == before


@pytest.mark.parametrize("name", ["index.npy", "skipped.jsonl", "inputs.jsonl", "tfrecord-00001-of-00003"])
def test_a_finished_dataset_that_lacks_a_file_is_named_and_mended(folder, original, dataset, name):
    (dataset / f"regions-train.{name}").unlink()
    with pytest.raises(jobs.PrepError, match=f"regions-train.{name}.* is missing"):
        jobs.prepare(folder, dataset, **OPTIONS)
    jobs.prepare(folder, dataset, overwrite=True, **OPTIONS)
    assert contents(dataset) == contents(original)


def test_a_finished_dataset_with_a_short_shard_is_refused(folder, dataset):
    os.truncate(dataset / "regions-train.tfrecord-00001-of-00003", 99)
    with pytest.raises(jobs.PrepError, match=r"its shards have \d+ bytes instead of \d+; restore it"):
        jobs.prepare(folder, dataset, **OPTIONS)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name": "other", "split": "train"}'])
def test_damaged_metadata_is_one_line_and_can_be_overwritten(folder, original, dataset, content):
    (dataset / "regions-train.json").write_bytes(content)
    for split in ("train", "validation"):
        with pytest.raises(jobs.PrepError, match="regions-train.json: the metadata .*; restore it from a copy, or run"):
            jobs.prepare(folder, dataset, split=split, **OPTIONS)
    jobs.prepare(folder, dataset, overwrite=True, **OPTIONS)
    assert contents(dataset) == contents(original)


@pytest.fixture
def unfinished(folder, tmp_path, monkeypatch):
    """A job that ended after two of three shards."""
    write, output = shards.write, tmp_path / "unfinished"

    def write_two(shard, advance):
        if "00002-of" in shard.path.name:
            raise KeyboardInterrupt
        return write(shard, advance)

    monkeypatch.setattr(shards, "write", write_two)
    with pytest.raises(KeyboardInterrupt):
        jobs.prepare(folder, output, **OPTIONS)
    monkeypatch.setattr(shards, "write", write)
    assert len(list(output.glob("*.tfrecord-*"))) == 2
    return output


@pytest.mark.parametrize("kept", [0, 20])
@pytest.mark.parametrize("damaged", ["regions-train.tfrecord-00000-of-00003", "*.tfrecord-00000-of-00003.json"])
def test_a_damaged_part_of_an_unfinished_job_is_made_again(folder, original, unfinished, damaged, kept):
    (path,) = [path for path in unfinished.rglob("*") if path.match(damaged)]
    os.truncate(path, kept)
    (unfinished / ".regions-train.unfinished" / f"left.{'0' * 32}.tmp").touch()
    jobs.prepare(folder, unfinished, **OPTIONS)
    assert contents(unfinished) == contents(original)


def test_an_unfinished_job_goes_on_with_the_same_options_and_images_alone(folder, unfinished, tmp_path):
    before = contents(unfinished)
    with pytest.raises(jobs.PrepError, match="layers fh_20 fh_60, now fh_20"):
        jobs.prepare(folder, unfinished, **OPTIONS | {"scales": (20,)})
    images = shutil.copytree(folder, tmp_path / "images")
    os.utime(images / "03.jpg", (0, 0))
    with pytest.raises(jobs.PrepError, match="03.jpg was modified"):
        jobs.prepare(images, unfinished, **OPTIONS)
    assert contents(unfinished) == before
    for name in ("job.json", "inputs.jsonl"):
        path = unfinished / ".regions-train.unfinished" / name
        content = path.read_bytes()
        path.write_bytes(content[:9])
        with pytest.raises(jobs.PrepError, match=rf"{name}.* is corrupt.*use --overwrite"):
            jobs.prepare(folder, unfinished, **OPTIONS)
        path.write_bytes(content)


def test_an_output_within_the_images_is_not_taken_for_images(folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")
    jobs.prepare(images, images / "out", **OPTIONS)
    shutil.copy(images / "00.jpg", images / "out" / "regions-train.sheet.png")
    jobs.prepare(images, images / "out", **OPTIONS)
    assert jobs.prepare(images, images / "out", split="again", **OPTIONS)["num_examples"] == 6
    for output in (images, tmp_path):
        with pytest.raises(jobs.PrepError, match="holds the images; give another --output"):
            jobs.prepare(images, output, **OPTIONS)


def test_maps_within_the_images_are_refused(folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")
    (images / "maps").mkdir()
    (images / "panoptic.json").write_text(json.dumps({"images": [], "annotations": []}))
    for kind in ("label_maps:maps", "panoptic:panoptic.json"):
        kind, path = kind.split(":")
        with pytest.raises(
            jobs.PrepError, match="lies in the image folder; move it, or its maps would be read as images"
        ):
            jobs.prepare(images, tmp_path / "out", regions=f"{kind}:{images / path}", workers=1)


def test_scales_without_their_kind_are_refused(folder, tmp_path):
    with pytest.raises(jobs.PrepError, match="--scales belongs to fh, which is not among the regions label_maps"):
        jobs.prepare(folder, tmp_path / "out", regions=f"label_maps:{tmp_path}", **OPTIONS)


def test_a_second_dataset_that_came_meanwhile_is_refused(folder, original, tmp_path, monkeypatch):
    """Another job finished another dataset in the folder while this one worked."""
    output, write = tmp_path / "out", shards.write

    def write_late(shard, advance):
        if not (output / "regions-train.json").exists():
            shutil.copytree(original, output, dirs_exist_ok=True)
        return write(shard, advance)

    monkeypatch.setattr(shards, "write", write_late)
    with pytest.raises(jobs.PrepError, match="has received the dataset 'regions' since this job began"):
        jobs.prepare(folder, output, name="other", split="validation", **OPTIONS)
    assert (output / "dataset_info.json").read_bytes() == (original / "dataset_info.json").read_bytes()

"""Whole jobs: what they write, read back by independent means, and how they resume, refuse and fail."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib

import google_crc32c
import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import felzenszwalb as skimage_felzenszwalb
from small_images import contents

from data_prep import job as jobs
from data_prep import plan, shipped_photographs
from data_prep.dataset import records

SCALES = (100, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten small photographs of several kinds, two of them below a further folder."""
    full, small = tmp_path_factory.mktemp("full"), tmp_path_factory.mktemp("small")
    shipped_photographs.write(full)
    (small / "more").mkdir()
    for i, path in enumerate(sorted((full / "train").iterdir())[:10]):
        kind = ("jpg", "png", "webp")[i % 3]
        with Image.open(path) as image:
            image.thumbnail((120, 120))
            image.save(small / ("more" if i > 7 else ".") / f"{path.stem}.{kind}")
    return small


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory):
    """The folder prepared once with one worker: (dataset's folder, metadata)."""
    output = tmp_path_factory.mktemp("dataset") / "out"
    return output, jobs.prepare(folder, output, scales=SCALES, shards=3, workers=1)


def masked_crc(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_frames(path):
    """(offset, data) of each TFRecord frame, crc checked; from the format's description."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        length, length_crc = struct.unpack_from("<QI", content, at)
        data = content[at + 12 : at + 12 + length]
        assert length_crc == masked_crc(content[at : at + 8])
        assert struct.unpack_from("<I", content, at + 12 + length)[0] == masked_crc(data)
        yield at, data
        at += 16 + length


def wire_fields(message):
    """(field number, value) of a protobuf message: integers and byte strings."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 == 2
            length = varint()
            at += length
            yield tag >> 3, message[at - length : at]


def read_example(data):
    """Features of a serialised tf.train.Example: lists of bytes or of integers."""
    ((_, features),) = wire_fields(data)
    found = {}
    for _, entry in wire_fields(features):
        entry = dict(wire_fields(entry))
        ((kind, values),) = wire_fields(entry[2])
        if kind == 1:
            found[entry[1].decode()] = [value for _, value in wire_fields(values)]
        else:
            assert kind == 3  # packed: the one field holds varints, read as field-less numbers
            numbers, value, shift = [], 0, 0
            for byte in b"".join(value for _, value in wire_fields(values)):
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    numbers.append(value - (1 << 64) if value >> 63 else value)
                    value = shift = 0
            found[entry[1].decode()] = numbers
    return found


def shard_files(output, split="train"):
    return sorted(output.glob(f"*-{split}.tfrecord-*"))


def test_records_hold_the_images_and_scikit_images_regions(folder, dataset):
    output, _ = dataset
    examples = [read_example(data) for path in shard_files(output) for _, data in read_frames(path)]
    ids = [example["image_id"][0].decode() for example in examples]
    assert ids == sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*"))
    for image_id, example in zip(ids, examples, strict=True):
        assert set(example) == set(records.FIELDS)
        pixels = np.asarray(Image.open(io.BytesIO(example["image"][0])).convert("RGB"))
        assert example["regions/shape"] == [2, *pixels.shape[:2]]
        assert [example["height"], example["width"]] == [[pixels.shape[0]], [pixels.shape[1]]]
        maps = np.frombuffer(zlib.decompress(example["regions/value"][0]), "<u2").reshape(example["regions/shape"])
        for layer, scale in zip(maps, SCALES, strict=True):
            expected = skimage_felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=scale)
            np.testing.assert_array_equal(layer, expected + 1)
        assert example["num_regions"] == [len(np.unique(layer)) for layer in maps]
        assert example["region_layers"] == [0, 1]
        assert example["label"] == [-1]
        source = (folder / image_id).read_bytes()
        assert (example["image"][0] == source) == image_id.endswith(".jpg")


def test_index_and_metadata_describe_the_shards(dataset):
    output, metadata = dataset
    frames = [
        (shard, offset, len(data))
        for shard, path in enumerate(shard_files(output))
        for offset, data in read_frames(path)
    ]
    index = np.load(output / "regions-train.index.npy")
    assert index.dtype == np.int64
    np.testing.assert_array_equal(index, frames)
    assert metadata == json.loads((output / "regions-train.json").read_text())
    assert metadata["name"] == "regions" and metadata["split"] == "train"
    assert metadata["shard_lengths"] == [sum(frame[0] == shard for frame in frames) for shard in range(3)]
    assert metadata["num_examples"] == 10 and metadata["num_skipped"] == 0
    assert metadata["layers"][0] == {
        "name": "fh_100",
        "method": "felzenszwalb",
        "scale": 100,
        "min_size": 100,
        "sigma": 0.8,
    }
    assert set(os.listdir(output)) == {
        "features.json",
        "dataset_info.json",
        "regions-train.json",
        "regions-train.index.npy",
        "regions-train.skipped.jsonl",
        "regions-train.inputs.jsonl",
        *(f"regions-train.tfrecord-0000{i}-of-00003" for i in range(3)),
    }


@pytest.mark.parametrize("workers", [2, 3])
def test_bytes_do_not_depend_on_the_workers(folder, dataset, tmp_path, workers):
    jobs.prepare(folder, tmp_path / "out", scales=SCALES, shards=3, workers=workers)
    assert contents(tmp_path / "out") == contents(dataset[0])


def test_two_splits_are_one_tfds_dataset(folder, dataset, tmp_path):
    output = shutil.copytree(dataset[0], tmp_path / "out")
    jobs.prepare(folder / "more", output, split="validation", scales=SCALES, workers=1)
    code = f"""
import sys
import tensorflow_datasets as tfds
info = tfds.builder_from_directory({str(output)!r}).info
print(info.name, {{name: (split.num_examples, split.shard_lengths) for name, split in info.splits.items()}})
print(sorted(info.features))
print(info.features["regions"].np_dtype, info.features["regions"].shape)
print([str(path) for path in info.splits["validation"].filepaths])
assert "tensorflow" not in sys.modules
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "regions {'train': (10, [3, 3, 4]), 'validation': (2, [2])}",
        "['height', 'image', 'image_id', 'label', 'num_regions', 'region_layers', 'regions', 'width']",
        "uint16 (None, None, None)",
        f"['{output}/regions-validation.tfrecord-00000-of-00001']",
    ]
    # The order in which splits are prepared leaves no trace.
    jobs.prepare(folder / "more", tmp_path / "back", split="validation", scales=SCALES, workers=1)
    jobs.prepare(folder, tmp_path / "back", scales=SCALES, shards=3, workers=1)
    assert contents(tmp_path / "back") == contents(output)


def test_a_dataset_without_regions(folder, tmp_path):
    metadata = jobs.prepare(folder, tmp_path / "out", regions="none", workers=1)
    assert metadata["layers"] == [] and metadata["num_regions"] == []
    for path in shard_files(tmp_path / "out"):
        for _, data in read_frames(path):
            record = records.decode(data)
            assert record.region_layers == () and record.num_regions == ()
            assert record.regions.shape == (0, record.height, record.width)


def test_a_finished_job_is_left_alone(folder, dataset):
    output, metadata = dataset
    before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert jobs.prepare(folder, output, scales=SCALES, shards=3, workers=1) == metadata
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scales": (100,)}, "layers fh_100 fh_300, now fh_100"),
        ({"regions": "none"}, "now none"),
        ({"shards": 2}, "shards 3, now 2"),
        ({"max_pixels": 10_000}, "max_pixels 67108864, now 10000"),
    ],
)
def test_other_options_are_refused(folder, dataset, options, named):
    output, _ = dataset
    before = contents(output)
    with pytest.raises(jobs.PrepError, match=f"{named}; use --overwrite"):
        jobs.prepare(folder, output, **{"scales": SCALES, "shards": 3, "workers": 1} | options)
    assert contents(output) == before


def test_other_images_are_refused_and_overwritten_on_demand(folder, dataset, tmp_path):
    images, output = shutil.copytree(folder, tmp_path / "images"), shutil.copytree(dataset[0], tmp_path / "out")
    with open(images / "astronaut.jpg", "ab") as file:
        file.write(b"\0")
    options = {"scales": SCALES, "shards": 3, "workers": 1}
    with pytest.raises(jobs.PrepError, match=r"astronaut.jpg had \d+ bytes, now \d+ bytes; use --overwrite"):
        jobs.prepare(images, output, **options)
    shutil.copy2(folder / "astronaut.jpg", images)
    jobs.prepare(images, output, **options)
    os.utime(images / "astronaut.jpg", ns=(0, 1_500_000_000_000_000_000))
    with pytest.raises(jobs.PrepError, match=r"astronaut.jpg was modified: 20\S+ \S+, now 2017-07-14 02:40:00.000;"):
        jobs.prepare(images, output, **options)
    shutil.copy2(folder / "astronaut.jpg", images / "another.jpg")
    with pytest.raises(jobs.PrepError, match="another.jpg is new;"):
        jobs.prepare(images, output, **options)
    (images / "another.jpg").unlink()
    (images / "astronaut.jpg").unlink()
    with pytest.raises(jobs.PrepError, match="astronaut.jpg is gone; use --overwrite"):
        jobs.prepare(images, output, **options)
    jobs.prepare(images, output, **options | {"shards": 2}, overwrite=True)
    jobs.prepare(images, tmp_path / "new", **options | {"shards": 2})
    assert contents(output) == contents(tmp_path / "new")


def test_overwriting_keeps_the_other_split(folder, dataset, tmp_path):
    output = shutil.copytree(dataset[0], tmp_path / "out")
    jobs.prepare(folder / "more", output, split="validation", scales=SCALES, workers=1)
    before = contents(output)
    jobs.prepare(folder / "more", output, split="validation", scales=SCALES, workers=1, overwrite=True)
    assert contents(output) == before


def test_another_datasets_folder_is_refused(folder, dataset):
    with pytest.raises(jobs.PrepError, match="holds the dataset 'regions'; give its --name or another --output"):
        jobs.prepare(folder, dataset[0], name="other", workers=1)


def test_shards_of_unknown_origin_are_refused(folder, dataset, tmp_path):
    shutil.copy(shard_files(dataset[0])[0], tmp_path)
    before = contents(tmp_path)
    with pytest.raises(jobs.PrepError, match="unknown origin; use --overwrite to delete them"):
        jobs.prepare(folder, tmp_path, workers=1)
    assert {name: data for name, data in contents(tmp_path).items() if name in before} == before


@pytest.fixture
def partly_bad(folder, tmp_path):
    """The folder with four files that give no record."""
    images = shutil.copytree(folder, tmp_path / "images")
    (images / "empty.png").touch()
    (images / "more" / "text.jpg").write_text("not an image")
    (images / "cut.jpg").write_bytes((images / "astronaut.jpg").read_bytes()[:-300])
    (images / "nowhere.jpg").symlink_to(tmp_path / "missing.jpg")
    return images


def test_bad_images_are_skipped_and_reported(partly_bad, dataset, tmp_path):
    metadata = jobs.prepare(partly_bad, tmp_path / "out", scales=SCALES, shards=3, workers=2, max_bad=0.5)
    assert metadata["num_examples"] == 10 and metadata["num_skipped"] == 4
    lines = (tmp_path / "out" / "regions-train.skipped.jsonl").read_text().splitlines()
    skipped = {entry["image_id"]: entry["reason"] for entry in map(json.loads, lines)}
    assert list(skipped) == ["cut.jpg", "empty.png", "more/text.jpg", "nowhere.jpg"]
    assert skipped["cut.jpg"].startswith("truncated or corrupt")
    assert skipped["empty.png"] == "empty file"
    assert skipped["more/text.jpg"].startswith("not an image")
    assert skipped["nowhere.jpg"] == "cannot be read: No such file or directory"

    def good(output):
        return {data for path in shard_files(output) for _, data in read_frames(path)}

    assert good(tmp_path / "out") == good(dataset[0])


def test_too_many_bad_images_fail_until_they_are_allowed(partly_bad, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(jobs.PrepError) as caught:
        jobs.prepare(partly_bad, output, scales=SCALES, shards=3, workers=1, max_bad=0.2)
    message = str(caught.value)
    assert "of 14" in message and "cut.jpg (truncated or corrupt" in message and "empty.png (empty file)" in message
    assert "--max_bad" in message and "\n" not in message
    assert not [path.name for path in output.iterdir() if path.suffix in (".json", ".npy", ".jsonl")]
    # Whether some shards or all of them are finished by then.
    with pytest.raises(jobs.PrepError, match="4 of 14 images are bad"):
        jobs.prepare(partly_bad, output, scales=SCALES, shards=3, workers=2, max_bad=0.28)
    jobs.prepare(partly_bad, output, scales=SCALES, shards=3, workers=2, max_bad=0.5)
    jobs.prepare(partly_bad, tmp_path / "new", scales=SCALES, shards=3, workers=1, max_bad=0.5)
    assert contents(output) == contents(tmp_path / "new")


def test_one_bad_image_of_ten_is_more_than_one_in_a_hundred(folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")
    (images / "astronaut.jpg").write_bytes(b"")
    with pytest.raises(jobs.PrepError, match=r"1 of 3 images are bad, more than --max_bad=0\.01 allows of 10"):
        jobs.prepare(images, tmp_path / "out", shards=3, workers=1)
    assert jobs.prepare(images, tmp_path / "out", shards=3, workers=1, max_bad=0.1)["num_skipped"] == 1


def test_no_good_image_is_an_error(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(jobs.PrepError, match=r"none of the 1 images is usable: a.png \(empty file\)"):
        jobs.prepare(tmp_path / "images", tmp_path / "out", workers=1, max_bad=1.0)
    assert not (tmp_path / "out" / "regions-train.json").exists()


def test_an_image_with_too_many_regions_is_skipped(tmp_path):
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "noise.png")
    Image.fromarray(noise[:20, :20]).save(tmp_path / "images" / "part.png")
    metadata = jobs.prepare(tmp_path / "images", tmp_path / "out", scales=(1,), workers=1, max_bad=0.5)
    (line,) = (tmp_path / "out" / "regions-train.skipped.jsonl").read_text().splitlines()
    assert "regions at scale 1; a uint16 label map holds 65535" in json.loads(line)["reason"]
    assert metadata["num_examples"] == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX file names")
def test_a_name_that_is_not_utf8_is_skipped(folder, tmp_path):
    images = shutil.copytree(folder, tmp_path / "images")
    shutil.copy(images / "astronaut.jpg", os.fsencode(images) + b"/\xff.jpg")
    jobs.prepare(images, tmp_path / "out", scales=SCALES, workers=1, max_bad=0.5)
    (line,) = (tmp_path / "out" / "regions-train.skipped.jsonl").read_text().splitlines()
    assert "not UTF-8" in json.loads(line)["reason"]


def test_shards_cut_the_images_evenly(folder):
    for count in (1, 3, 7, 10):
        job = plan.plan(plan.Options(images=folder, output=folder / "out", shards=count))
        cut = [tuple(item.image_id for item in shard.images) for shard in job.shards(())]
        assert sum(cut, ()) == job.source.image_ids
        assert max(map(len, cut)) - min(map(len, cut)) <= 1


@pytest.mark.parametrize(("images", "shards"), [(1, 1), (8, 1), (9, 2), (400, 50), (3000, 64), (118_287, 119)])
def test_default_number_of_shards(images, shards):
    assert plan.default_shards(images) == shards

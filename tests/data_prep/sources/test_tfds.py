"""Datasets that tfds itself, or the format's description, has written; read back without TensorFlow."""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

from data_prep.errors import PrepError
from data_prep.sources.source import Slice, Source
from data_prep.sources.tfds import open_tfds

CLASSES = ("ant", "bee", "cat")


def png(shade):
    """A file of 5x4 pixels, as an open file: what tfds stores as it is."""
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (shade, 2 * shade, 100)).save(out, "PNG")
    out.seek(0)
    return out


class Animals(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Like COCO: nested images and labels beside those of the example."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        nested = {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=9)}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "objects": tfds.features.Sequence(nested),
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "image/filename": tfds.features.Text(),
                    "image/id": np.int64,
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
        )

    def _split_generators(self, _):
        return {"train": self._generate_examples(23), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            yield (
                i,
                {
                    "image": png(i),
                    "image/filename": f"{i:03d}.png",
                    "image/id": i,
                    "label": CLASSES[i % 3],
                    "objects": [{"image": png(200), "label": 7}],
                },
            )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Holds animals/1.2.0 in array_record files, the each split in two."""
    folder = tmp_path_factory.mktemp("data")
    options = tfds.download.DownloadConfig(num_shards=2)
    builder = Animals(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=options)
    return folder


@pytest.fixture
def animals(data_dir, tmp_path):
    """A copy of its folder, to be changed."""
    return shutil.copytree(data_dir / "animals" / "1.2.0", tmp_path / "data" / "animals" / "1.2.0")


def crc32c(data):
    """Castagnoli's CRC, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def example(**features):
    """A serialised tf.train.Example; "__" in a name stands for "/"."""
    message = Example()
    for name, value in features.items():
        feature = message.features.feature[name.replace("__", "/")]
        values = value if isinstance(value, list) else [value]
        (feature.bytes_list if isinstance(values[0], bytes) else feature.int64_list).value.extend(values)
    return message.SerializeToString()


def write(folder, features, shards, split="train"):
    """Writes serialised examples as a dataset `things` of TFRecord shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, examples in enumerate(shards):
        path = folder / f"things-{split}.tfrecord-{i:05d}-of-{len(shards):05d}"
        path.write_bytes(b"".join(map(framed, examples)))
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features,
        split_infos=[tfds.core.SplitInfo(name=split, shard_lengths=list(map(len, shards)), num_bytes=0)],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        check_data=False,
    )
    return folder


IMAGE = tfds.features.Image(shape=(None, None, 3))
THINGS = {"image": IMAGE, "file_name": tfds.features.Text(), "label": tfds.features.ClassLabel(names=CLASSES)}


def thing(i):
    return example(image=b"image %d" % i, file_name=b"%d.jpg" % i, label=i % 3)


@pytest.fixture
def things(tmp_path):
    """Seven examples in three TFRecord shards, one of them empty."""
    return write(tmp_path / "things", THINGS, [list(map(thing, range(4))), [], list(map(thing, range(4, 7)))])


def found(images):
    return [(item.image_id, item.read(), item.label) for item in images]


def everything(source):
    return found(source.slice(0, source.num_images))


@pytest.mark.filterwarnings("ignore:label:DeprecationWarning")  # between tfds and its protobuf
def test_array_records_are_what_tfds_reads(data_dir):
    source = open_tfds("animals:train", data_dir)
    builder = tfds.builder_from_directory(data_dir / "animals" / "1.2.0")
    expected = [
        (one["image/filename"].decode(), one["image"], int(one["label"]))
        for one in builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    ]
    assert everything(source) == expected and len({image_id for image_id, _, _ in expected}) == 23
    for image_id, data, label in expected:
        shade = int(image_id[:3])
        assert data == png(shade).getvalue() and label == shade % 3
    assert source.kind == "tfds" and source.num_images == 23 and source.classes == CLASSES
    assert isinstance(source, Source) and isinstance(source.slice(0, 1), Slice)
    assert all(item.beside is None for item in source.slice(0, 2))


def test_tfrecords_in_the_order_of_the_shards(things):
    source = open_tfds(f"{things}:train")
    assert everything(source) == [(f"{i}.jpg", b"image %d" % i, i % 3) for i in range(7)]


@pytest.mark.parametrize("where", ["things", "animals"])
def test_every_slice_is_a_part_of_the_whole(where, things, data_dir):
    source = open_tfds(f"{things}:train") if where == "things" else open_tfds("animals:train", data_dir)
    whole = everything(source)
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            part = source.slice(start, stop)
            assert len(part) == stop - start
            assert found(part) == whole[start:stop]


def test_slices_are_small_and_picklable(data_dir):
    part = open_tfds("animals:train", data_dir).slice(5, 20)
    pickled = pickle.dumps(part)
    assert len(pickled) < 1000
    assert found(pickle.loads(pickled)) == found(part)


def test_inputs_are_named_below_the_dataset(data_dir, animals):
    source = open_tfds("animals:train", data_dir)
    names = [entry.name for entry in source.inputs()]
    assert names == [
        "features.json",
        *(f"animals-train.array_record-0000{i}-of-00002" for i in range(2)),
    ]
    assert [entry.size for entry in source.inputs()] == [(animals / name).stat().st_size for name in names]
    moved = open_tfds(f"{animals}:train")
    assert [entry[:2] for entry in moved.inputs()] == [entry[:2] for entry in source.inputs()]


def test_no_tensorflow_is_imported(data_dir):
    code = f"""
import sys
from pathlib import Path
from data_prep.sources.tfds import open_tfds
assert not {{"tensorflow_datasets", "array_record"}} & set(sys.modules)
source = open_tfds("animals:test", Path({str(data_dir)!r}))
print(sorted(item.image_id for item in source.slice(0, 2)))
assert "tensorflow" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert ran.stdout == "['000.png', '001.png']\n", ran.stderr
    assert "TensorFlow" not in ran.stderr


def test_workers_need_no_tfds(data_dir, things, tmp_path):
    parts = [open_tfds("animals:train", data_dir).slice(0, 3), open_tfds(f"{things}:train").slice(0, 3)]
    (tmp_path / "parts").write_bytes(pickle.dumps(parts))
    code = f"""
import pickle, sys
print([len(list(part)) for part in pickle.load(open({str(tmp_path / "parts")!r}, "rb"))])
assert "tensorflow_datasets" not in sys.modules
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "[3, 3]\n", ran.stderr


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        ("animals:train", "10.0.0"),
        ("animals:1.2.0:train", "1.2.0"),
        ("animals:1.*.*:train", "1.9.0"),
        ("with_configs/small:train", "2.0.0"),
        ("with_configs/small:1.0.0:train", "1.0.0"),
        ("with_configs:train", "3.0.0"),
    ],
)
def test_datasets_by_name(animals, monkeypatch, spec, version):
    data_dir = animals.parent.parent
    for other in ("1.9.0", "10.0.0"):
        shutil.copytree(animals, animals.parent / other)
    (animals.parent / "incomplete.ABC_11.0.0").mkdir()
    for other in ("small/1.0.0", "small/2.0.0", "large/3.0.0"):
        shutil.copytree(animals, data_dir / "with_configs" / other)
    (data_dir / "with_configs" / ".config").mkdir()
    (data_dir / "with_configs" / ".config" / "metadata.json").write_text('{"default_config_name": "large"}')
    source = open_tfds(spec, data_dir)
    assert source.folder.name == version and source.num_images == 23
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert open_tfds(spec) == source


def test_the_home_folder_is_the_default(animals, monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").rename(tmp_path / "tensorflow_datasets")
    assert open_tfds("animals:train").folder == tmp_path / "tensorflow_datasets" / "animals" / "1.2.0"
    assert open_tfds("~/tensorflow_datasets/animals/1.2.0:test").num_images == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("animals", "'animals' does not name a dataset and a split; give NAME:SPLIT"),
        ("animals:", "does not name a dataset and a split"),
        (":train", "does not name a dataset and a split"),
        ("animals:1.2.0", "no split '1.2.0'; its splits are train, test"),
        ("animals:all", "no split 'all'; its splits are train, test"),
        ("animals:train[:5]", "neither a folder that contains dataset_info.json nor a dataset name"),
        ("dogs:train", "no dataset 'dogs' in .*data and no folder dogs that .* contains animals, with_configs$"),
        ("animals:2.0.0:train", "no version 2.0.0 of animals:2.0.0 in .*; .* contains 1.2.0$"),
        ("animals:2.0:train", "nor a dataset name such as"),
        ("animals/big:train", "no prepared version of animals/big in .*animals/big; .* is not a folder"),
        ("with_configs:train", "no prepared version .* give a config .* contains large, small$"),
        ("ns:animals:train", "nor a dataset name such as"),
        ("/nowhere:train", "/nowhere is neither a folder that contains dataset_info.json.*/nowhere is not a folder$"),
        ("{folder}:train", "contains 1.2.0$"),
    ],
)
def test_what_is_not_there(animals, spec, message):
    for config in ("small", "large"):
        shutil.copytree(animals, animals.parent.parent / "with_configs" / config / "1.0.0")
    with pytest.raises(PrepError, match=message) as caught:
        open_tfds(spec.format(folder=animals.parent), animals.parent.parent)
    assert "\n" not in str(caught.value)


def test_missing_shards(animals):
    (animals / "animals-train.array_record-00001-of-00002").unlink()
    with pytest.raises(
        PrepError, match=r"animals-train.array_record-00001-of-00002 is missing \(missing shards: 1 of 2\)"
    ):
        open_tfds(f"{animals}:train")
    assert open_tfds(f"{animals}:test").num_images == 2


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"pythonClassName": "no.such.Feature"}', None])
def test_damaged_descriptions(animals, name, content):
    if content is not None:
        (animals / name).write_text(content)
    elif name == "features.json":
        (animals / name).unlink()
    else:
        (animals / name).write_text((animals / name).read_text().replace("array_record", "parrot"))
    with pytest.raises(PrepError, match="tfds cannot open this dataset") as caught:
        open_tfds(f"{animals}:train")
    assert "\n" not in str(caught.value)


def test_other_formats(animals):
    info = json.loads((animals / "dataset_info.json").read_text())
    (animals / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "riegeli"}))
    with pytest.raises(
        PrepError, match="riegeli files are not supported; prepare the dataset with file_format='array_record'"
    ):
        open_tfds(f"{animals}:train")


def test_descriptions_older_than_file_formats_are_of_tfrecords(things):
    info = json.loads((things / "dataset_info.json").read_text())
    del info["fileFormat"]
    (things / "dataset_info.json").write_text(json.dumps(info))
    assert open_tfds(f"{things}:train").num_images == 7


def test_a_split_without_examples(tmp_path):
    write(tmp_path, THINGS, [[]])
    with pytest.raises(PrepError, match="split 'train' has no examples"):
        open_tfds(f"{tmp_path}:train")


TEXT = tfds.features.Text()
LABEL = tfds.features.ClassLabel(names=CLASSES)


@pytest.mark.parametrize(
    ("features", "image_id", "label", "classes"),
    [
        ({"photo": IMAGE}, "train/00000-000000", -1, ()),
        ({"image": IMAGE, "other": IMAGE}, "train/00000-000000", -1, ()),
        ({"image": IMAGE, "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1))}, None, -1, ()),
        ({"image": IMAGE, "id": np.int64, "filename": TEXT}, "filename.x", -1, ()),
        ({"image": IMAGE, "id": np.int64, "label": np.int64}, "2", 2, ()),
        ({"image": IMAGE, "image/id": np.int32, "id": TEXT}, "2", -1, ()),
        ({"image": IMAGE, "image_id": TEXT, "image/filename": TEXT}, "image_id.x", -1, ()),
        ({"image": IMAGE, "id": tfds.features.Tensor(shape=(2,), dtype=np.int64)}, "train/00000-000000", -1, ()),
        ({"image": IMAGE, "kind": LABEL}, None, 2, CLASSES),
        ({"image": IMAGE, "kind": LABEL, "label": LABEL}, None, 2, CLASSES),
        ({"image": IMAGE, "one": LABEL, "two": LABEL}, None, -1, ()),
        ({"image": IMAGE, "label": tfds.features.ClassLabel(num_classes=3)}, None, 2, ("0", "1", "2")),
        ({"image": IMAGE, "label": tfds.features.ClassLabel()}, None, 2, ()),
        ({"image": IMAGE, "label": TEXT}, None, -1, ()),
    ],
)
def test_which_features_are_read(tmp_path, features, image_id, label, classes):
    def value(name, feature):
        if isinstance(feature, tfds.features.Image):
            return b"the image" if name in ("image", "photo") else b"another"
        return f"{name}.x".encode() if feature is TEXT else 2

    values = {name.replace("/", "__"): value(name, feature) for name, feature in features.items()}
    source = open_tfds(f"{write(tmp_path, features, [[example(**values)]])}:train")
    assert everything(source) == [(image_id or "train/00000-000000", b"the image", label)]
    assert source.classes == classes


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"label": LABEL, "a": TEXT}, "has no image; its features are a, label"),
        ({"objects": tfds.features.Sequence({"image": IMAGE})}, "has no image; its features are objects"),
        ({"mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1))}, "has no image"),
        ({"left": IMAGE, "right": IMAGE}, r"several images \(left, right\), none named 'image'"),
        ({"image": TEXT, "left": IMAGE, "right": IMAGE}, "several images"),
        ({"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)}, "pixels of .*float32"),
    ],
)
def test_features_that_are_not_those_of_images(tmp_path, features, message):
    with pytest.raises(PrepError, match=message):
        open_tfds(f"{write(tmp_path, features, [[b'']])}:train")


def test_one_damaged_example_leaves_the_others_alone(tmp_path):
    broken = [
        (example(file_name=b"x.jpg", label=1), "x.jpg", "0 values of image instead of one"),
        (example(image=[b"1", b"2"], file_name=b"x.jpg", label=1), "x.jpg", "2 values of image instead of one"),
        (example(image=3, file_name=b"x.jpg", label=1), "x.jpg", "0 values of image instead of one"),
        (example(image=b"1", file_name=b"x.jpg"), "x.jpg", "0 values of label"),
        (example(image=b"1", file_name=b"x.jpg", label=3), "x.jpg", "label 3 is not one of 3 classes"),
        (example(image=b"1", file_name=b"x.jpg", label=-2), "x.jpg", "label -2 is not"),
        (example(image=b"1", label=1), "train/00000-000006", "0 values of file_name"),
        (example(image=b"1", file_name=b"\xff.jpg", label=1), "train/00000-000007", "utf-8"),
        (b"nonsense", "train/00000-000008", "corrupt example train/00000-000008"),
        (b"", "train/00000-000009", "0 values of file_name"),
    ]
    write(tmp_path, THINGS, [[one for one, _, _ in broken] + [thing(5)]])
    source = open_tfds(f"{tmp_path}:train")
    *items, last = source.slice(0, 11)
    for item, (_, image_id, message) in zip(items, broken, strict=True):
        assert item.image_id == image_id and item.label == -1
        with pytest.raises(OSError, match=message):
            item.read()
    assert (last.image_id, last.read(), last.label) == ("5.jpg", b"image 5", 2)


def test_an_unlabelled_example(tmp_path):
    write(tmp_path, THINGS, [[example(image=b"1", file_name=b"x.jpg", label=-1)]])
    assert everything(open_tfds(f"{tmp_path}:train")) == [("x.jpg", b"1", -1)]


SHARD = "things-train.tfrecord-00000-of-00003"


@pytest.mark.parametrize(
    ("at", "of", "message"),
    [
        (0, 1, "the length is corrupt"),
        (11, 1, "the length is corrupt"),
        (20, 1, "the data is corrupt"),
        (-1, 1, "the data is corrupt"),
    ],
)
def test_damaged_frames_end_a_slice(things, at, of, message):
    path = things / SHARD
    content = bytearray(path.read_bytes())
    size = len(framed(thing(0)))
    content[of * size + at % size] ^= 4
    path.write_bytes(content)
    source = open_tfds(f"{things}:train")
    items = iter(source.slice(0, 4))
    assert next(items).image_id == "0.jpg"
    with pytest.raises(OSError, match=f"{SHARD}: byte {size}: {message}"):
        next(items)
    assert found(source.slice(0, 1)) and len(found(source.slice(4, 7))) == 3
    if "length" in message:  # of one that is passed over
        with pytest.raises(OSError, match=f"byte {size}: {message}"):
            list(source.slice(3, 4))


@pytest.mark.parametrize(
    ("cut", "message"), [(5, "truncated: "), (None, "3 examples, fewer than"), (-5, "truncated: 5 bytes")]
)
def test_truncated_tfrecords(things, cut, message):
    path = things / SHARD
    size = len(framed(thing(0)))
    content = path.read_bytes()
    path.write_bytes(content[: 3 * size + {5: size - 5, None: 0, -5: 5}[cut]])
    source = open_tfds(f"{things}:train")
    assert len(found(source.slice(0, 3))) == 3
    for start in (0, 3):
        with pytest.raises(OSError, match=f"{SHARD}: byte {3 * size}: .*{message}"):
            list(source.slice(start, 4))


def test_a_damaged_length_asks_for_no_memory(things):
    path = things / SHARD
    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(length + masked(length) + b"x")
    with pytest.raises(OSError, match="truncated: 13 bytes of 1152921504606846992"):
        list(open_tfds(f"{things}:train").slice(0, 1))


def test_damaged_array_records(animals):
    path = animals / "animals-train.array_record-00000-of-00002"
    source = open_tfds(f"{animals}:train")
    count = source.shards.counts[0]
    content = path.read_bytes()
    at = content.index(b"IHDR")
    for damaged, message in [
        (content[:at] + b"\0" + content[at + 1 :], "hash mismatch.* byte"),
        (content[: len(content) // 2], "path"),
        (b"", "at least 64KB"),
        ((animals / "animals-test.array_record-00000-of-00002").read_bytes(), "1 examples, fewer than"),
        (None, "No such file"),
    ]:
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(OSError, match=f"{path.name}: .*{message}" if message != "path" else path.name) as caught:
            list(source.slice(0, count))
        assert "\n" not in str(caught.value)
        assert len(found(source.slice(count, 23))) == 23 - count


def test_little_is_read_for_a_slice(tmp_path):
    """From 256 MB of zeros, a hole in the file, and one example behind them."""
    write(tmp_path, THINGS, [[thing(0), thing(1)]])
    hole = struct.pack("<Q", 256 << 20)
    path = tmp_path / "things-train.tfrecord-00000-of-00001"
    with path.open("wb") as out:
        out.write(hole + masked(hole))
        out.seek((256 << 20) + 4, os.SEEK_CUR)
        out.write(framed(thing(1)))
    source = open_tfds(f"{tmp_path}:train")
    tracemalloc.start()
    try:
        assert found(source.slice(1, 2)) == [("1.jpg", b"image 1", 1)]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()

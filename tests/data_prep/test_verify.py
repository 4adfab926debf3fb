"""What is done to a dataset is named with its file and record, and nothing else is."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import whole_datasets
from whole_datasets import make_record

from data_prep import verify
from data_prep.dataset import records, tfrecord
from data_prep.errors import PrepError

REPOSITORY = Path(__file__).parents[2]
SHARDS = ("toy-train.tfrecord-00000-of-00002", "toy-train.tfrecord-00001-of-00002")
SOUND = r"toy-train: 6 images in 2 shards, 2 skipped, coarse (\d+), fine (\d+) regions: all sound"


def the_records():
    """Three and three records: several label maps of a layer, one without regions, one of one layer alone."""
    layers = [(0, 1, 1), (0, 1), (), (0, 0, 1, 1), (0, 1, 1), (1,)]
    made = [make_record(i, layers[i], height=40 + i, label=i % 3 - 1) for i in range(6)]
    return [made[:3], made[3:]]


def write(folder, shards, **options):
    skipped = [("a.jpg", "empty file"), ("b.jpg", "not an image")]
    return whole_datasets.write(folder, shards, classes=("cat", "dog"), skipped=skipped, **options)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sound") / "toy", the_records())


@pytest.fixture
def dataset(sound, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(sound, tmp_path / "toy")


def problems(folder, **options):
    """Lines about what is broken, without the folder."""
    return [line.replace(f"{folder}/", "") for verdict in verify.verify(folder, **options) for line in verdict.problems]


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def metadata(folder, split="train"):
    return json.loads((folder / f"toy-{split}.json").read_text())


def frame_of(folder, number):
    """Shard, offset and length of the frame of a record."""
    shard, offset, length = np.load(folder / "toy-train.index.npy")[number].tolist()
    return folder / SHARDS[shard], offset, length + 16


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_an_untouched_dataset_is_sound(sound):
    shared, train = verify.verify(sound)
    assert shared.problems == train.problems == ()
    assert [int(count) for count in re.fullmatch(SOUND, train.summary).groups()] == metadata(sound)["num_regions"]
    assert verify.verify(sound, workers=2) == [shared, train]


# Damage to one file: what is done, and the one line that names it.


def flip_data(folder):
    path, offset, length = frame_of(folder, 1)
    flip(path, offset + length // 2)
    return rf"{path.name}: record 1 \(byte {offset}\): the data is corrupt \(crc mismatch\)"


def flip_crc(folder):
    path, offset, length = frame_of(folder, 3)
    flip(path, offset + length - 1)
    return rf"{path.name}: record 3 \(byte 0\): the data is corrupt \(crc mismatch\)"


def flip_length(folder):
    path, offset, _ = frame_of(folder, 4)
    flip(path, offset)
    return rf"{path.name}: record 4 \(byte {offset}\): the length is corrupt \(crc mismatch\)"


def flip_high_length(folder):
    path, offset, _ = frame_of(folder, 4)
    flip(path, offset + 6)
    return rf"{path.name}: record 4 \(byte {offset}\): the length is corrupt \(crc mismatch\)"


def truncate(folder):
    path, offset, length = frame_of(folder, 4)
    os.truncate(path, offset + length - 7)
    return (
        rf"{path.name}: record 4 \(byte {offset}\): truncated: "
        f"{length - 7} bytes of {length}; 1 more records should follow it"
    )


def truncate_header(folder):
    path, offset, _ = frame_of(folder, 5)
    os.truncate(path, offset + 5)
    return rf"{path.name}: record 5 \(byte {offset}\): truncated: 5 bytes are less than a frame"


def truncate_between(folder):
    path, offset, _ = frame_of(folder, 5)
    os.truncate(path, offset)
    return f"{path.name}: holds 2 records, not 3 as in the metadata and the index"


def append_record(folder):
    with (folder / SHARDS[0]).open("ab") as file:
        file.write(tfrecord.frame(records.encode(make_record(9))))
    return f"{SHARDS[0]}: holds 4 records, not 3 as in the metadata and the index"


def delete_shard(folder):
    (folder / SHARDS[1]).unlink()
    return f"{SHARDS[1]}: the shard is missing; copy it again, or prepare the split with --overwrite"


def add_shard(folder):
    shutil.copy(folder / SHARDS[1], folder / "toy-train.tfrecord-00001-of-00003")
    return "toy-train.tfrecord-00001-of-00003: is not one of the 2 shards of toy-train; delete it"


def leave_temporary(folder):
    (folder / f"{SHARDS[0]}.123.tmp").touch()
    return rf"{SHARDS[0]}.123.tmp: left over from a job that was killed; delete it"


def leave_job(folder):
    (folder / ".toy-train.unfinished").mkdir()
    return ".toy-train.unfinished: left over from a job, though toy-train is finished; delete it"


def delete_metadata(folder):
    (folder / "toy-train.json").unlink()
    return "toy-train.json: missing, so toy-train is unfinished; run the same data_prep command again"


def unfinished(folder):
    (folder / ".toy-train.unfinished").mkdir()
    (folder / "toy-train.json").unlink()
    return ".toy-train.unfinished: the job that prepares toy-train has not finished; run the same .* to finish it"


def cut_metadata(folder):
    (folder / "toy-train.json").write_text('{"name": "toy",')
    return r"toy-train.json: the metadata cannot be read \(Expecting .*\); restore it from a copy, or run .*"


def metadata_without_bytes(folder):
    edit(folder / "toy-train.json", num_bytes=None)
    return "toy-train.json: num_bytes is None, not a count; restore it from a copy, or run .*"


def metadata_of_another(folder):
    edit(folder / "toy-train.json", split="test")
    return "toy-train.json: split is 'test', not 'train' as in the file name; restore it from a copy, or run .*"


def more_layers(folder):
    edit(folder / "toy-train.json", layers=[{"name": name} for name in "abc"])
    return "toy-train.json: num_regions has 2 counts for 3 layers; restore it from a copy, or run .*"


def same_layers(folder):
    edit(folder / "toy-train.json", layers=[{"name": "a"}, {"name": "a"}])
    return "toy-train.json: two layers have the same name; restore it from a copy, or run .*"


def other_bytes(folder):
    edit(folder / "toy-train.json", num_bytes=5)
    return r"toy-train.json: num_bytes is 5, but the shards have \d+"


def other_regions(folder):
    first, second = metadata(folder)["num_regions"]
    edit(folder / "toy-train.json", num_regions=[first, second + 1])
    return f"toy-train.json: num_regions of layer 'fine' is {second + 1}, but the records have {second}"


def other_images(folder):
    edit(folder / "toy-train.json", num_images=9)
    return "toy-train.json: num_images is 9, but 8 were written or skipped"


def other_examples(folder):
    edit(folder / "toy-train.json", num_examples=7)
    return "toy-train.json: num_examples is 7, but shard_lengths add up to 6"


def delete_index(folder):
    (folder / "toy-train.index.npy").unlink()
    return "toy-train.index.npy: missing; copy it again"


def cut_index(folder):
    os.truncate(folder / "toy-train.index.npy", 140)
    return r"toy-train.index.npy: cannot be read \(.*\); copy it again"


def spoil_index(folder):
    path = folder / "toy-train.index.npy"
    path.write_bytes(path.read_bytes().replace(b"), }", b"(, }"))
    return r"toy-train.index.npy: cannot be read \(.*\); copy it again"


def edit_index(folder, change):
    index = np.load(folder / "toy-train.index.npy")
    np.save(folder / "toy-train.index.npy", change(index))


def float_index(folder):
    edit_index(folder, np.float64)
    return r"toy-train.index.npy: the index must be int64 \(records, 3\), not float64 \(6, 3\)"


def shift_index(folder):
    _, offset, length = frame_of(folder, 4)
    edit_index(folder, lambda index: index + np.outer(np.arange(6) >= 4, [0, 1, 0]))
    return (
        rf"{SHARDS[1]}: record 4 \(byte {offset}\): has {length - 16} bytes, unlike the index, "
        f"which says byte {offset + 1}, {length - 16} bytes; 1 later records differ too"
    )


def shorten_index(folder):
    edit_index(folder, lambda index: index[:-1])
    return f"{SHARDS[1]}: holds 3 records, not 2 as in the index"


def foreign_row(folder):
    edit_index(folder, lambda index: index + np.outer(np.arange(6) == 5, [1, 0, 0]))
    return r"toy-train.index.npy: record 5: shard 2, byte \d+, \d+ bytes is out of order, or outside the 2 shards.*"


def reverse_index(folder):
    edit_index(folder, lambda index: index[::-1])
    return r"toy-train.index.npy: record 3: shard 0, byte \d+, \d+ bytes is out of order.*"


def delete_skipped(folder):
    (folder / "toy-train.skipped.jsonl").unlink()
    return r"toy-train.skipped.jsonl: cannot be read \(No such file or directory\); copy it again"


def drop_skipped(folder):
    path = folder / "toy-train.skipped.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    return "toy-train.skipped.jsonl: lists 1 images, but num_skipped in toy-train.json is 2"


def spoil_skipped(folder):
    path = folder / "toy-train.skipped.jsonl"
    path.write_text(path.read_text().replace("reason", "why"))
    return "toy-train.skipped.jsonl: line 1 is not an object with image_id and reason; copy the file again"


def delete_inputs(folder):
    (folder / "toy-train.inputs.jsonl").unlink()
    return r"toy-train.inputs.jsonl: cannot be read \(No such file or directory\); copy it again"


def spoil_inputs(folder):
    (folder / "toy-train.inputs.jsonl").write_text("[]\n")
    return r"toy-train.inputs.jsonl: line 1 is not a list \[name, bytes, modification time\]; copy the file again"


def delete_features(folder):
    (folder / "features.json").unlink()
    return r"features.json: cannot be read \(No such file or directory\); copy it again"


def other_features(folder):
    (folder / "features.json").write_text('{"featuresDict": {"features": {"image": {}, "regions": {}}}}')
    return "features.json: lacks height, image_id, label, num_regions, width; copy it again"


def spoil_features(folder):
    (folder / "features.json").write_text("[]")
    return r"features.json: is not what TFDS writes \(TypeError: .*\); copy it again"


def delete_info(folder):
    (folder / "dataset_info.json").unlink()
    return r"dataset_info.json: cannot be read \(No such file or directory\); copy it again"


def other_info(folder):
    edit(folder / "dataset_info.json", splits=[{"name": "train", "shardLengths": ["2", "4"]}])
    return "dataset_info.json: split 'train': shardLengths differ from shard_lengths in toy-train.json"


def no_split_in_info(folder):
    edit(folder / "dataset_info.json", splits=[])
    return "dataset_info.json: split 'train': is missing, unlike in toy-train.json"


def another_split_in_info(folder):
    splits = json.loads((folder / "dataset_info.json").read_text())["splits"]
    edit(folder / "dataset_info.json", splits=[*splits, {"name": "test", "shardLengths": ["2"]}])
    return "dataset_info.json: split 'test' has no files here; copy them again"


def another_name_in_info(folder):
    edit(folder / "dataset_info.json", name="coco")
    return "dataset_info.json: the dataset's name is 'coco' there, but 'toy' in the file names"


# fmt: off
DAMAGES = (
    flip_data, flip_crc, flip_length, flip_high_length, truncate, truncate_header, truncate_between, append_record,
    delete_shard, add_shard, leave_temporary, leave_job, delete_metadata, unfinished, cut_metadata,
    metadata_without_bytes, metadata_of_another, more_layers, same_layers, other_bytes, other_regions, other_images,
    other_examples, delete_index, cut_index, spoil_index, float_index, shift_index, shorten_index, foreign_row,
    reverse_index, delete_skipped, drop_skipped, spoil_skipped, delete_inputs, spoil_inputs, delete_features,
    other_features,
    spoil_features, delete_info, other_info, no_split_in_info, another_split_in_info, another_name_in_info,
)
# fmt: on


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_only_it(dataset, damage):
    expected = damage(dataset)
    (line,) = problems(dataset)
    assert re.fullmatch(expected, line), line


def pack(*maps):
    return records.pack_regions(np.array(maps, np.uint16))


def blank(height=42, width=56):
    return np.zeros((height, width), np.uint16)


def with_gap():
    one = blank()
    one[:5] = 1
    one[5:9] = 3
    one[20:] = 5
    return one


# Records that were written wrong, crc and all: fields of record 2, and what is said of it.
WRONG = {
    "too many regions": (
        {
            "region_layers": (1,),
            "num_regions": (6,),
            "packed_regions": pack(np.minimum(with_gap(), 1)),
        },
        r"label map 0 \(layer 'fine'\): has 1 regions, but num_regions says 6",
    ),
    "a gap": (
        {"region_layers": (1,), "num_regions": (5,), "packed_regions": pack(with_gap())},
        r"label map 0 \(layer 'fine'\): has labels up to 5, but no pixel of 2, 4",
    ),
    "many gaps": (
        {"region_layers": (0, 1), "num_regions": (0, 99), "packed_regions": pack(blank(), blank() + 99)},
        r"label map 1 \(layer 'fine'\): has labels up to 99, but no pixel of 1, 2, 3, 4, 5, \.\.\.",
    ),
    "a foreign image": (
        {"image": make_record(0, (), 30, 20).image},
        r"the image is 30x20 \(height x width\), not 42x56 as the record says",
    ),
    "an image cut short": ({"image": make_record(2).image[:200]}, "the image cannot be decoded: .*"),
    "no image": ({"image": b""}, "the image cannot be decoded: .*"),
    "maps of another size": (
        {"region_layers": (1,), "num_regions": (0,), "packed_regions": pack(blank(41))},
        "corrupt region maps: .*",
    ),
    "maps that are no zlib": (
        {"region_layers": (1,), "num_regions": (0,), "packed_regions": b"zlib"},
        "corrupt region maps: .*",
    ),
    "descending layers": (
        {"region_layers": (1, 0), "num_regions": (0, 0), "packed_regions": pack(blank(), blank())},
        r"region_layers \[1, 0\] are not ascending",
    ),
    "a layer too many": (
        {"region_layers": (2,), "num_regions": (0,), "packed_regions": pack(blank())},
        r"region_layers \[2\]: the dataset has layers 0 to 1",
    ),
    "counts too few": (
        {"region_layers": (0, 1), "num_regions": (0,), "packed_regions": pack(blank(), blank())},
        "num_regions has 1 counts for 2 label maps",
    ),
    "a label too high": ({"label": 2}, "label 2 is neither -1 nor one of the dataset's 2 classes"),
    "a label too low": ({"label": -2}, "label -2 is neither -1 nor one of the dataset's 2 classes"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_record_is_named_and_only_it(tmp_path, kind):
    changes, expected = WRONG[kind]
    shards = the_records()
    shards[0][2] = make_record(2, (), height=42, **changes)
    (line,) = problems(write(tmp_path / "toy", shards))
    assert re.fullmatch(rf"{SHARDS[0]}: record 2 \(byte \d+, 'folder/2.jpg'\): {expected}", line), line


def replace_data(folder, number, change):
    """Writes one shard anew with other data of a record, of the same length, and right crcs."""
    path, offset, length = frame_of(folder, number)
    content = path.read_bytes()
    data = change(content[offset + 12 : offset + length - 4])
    assert len(data) == length - 16
    path.write_bytes(content[:offset] + tfrecord.frame(data) + content[offset + length :])
    return path.name


def test_a_record_that_is_none(dataset):
    name = replace_data(dataset, 0, lambda data: b"\xff" * len(data))
    (line,) = problems(dataset)
    assert re.fullmatch(rf"{name}: record 0 \(byte 0\): not a tf.train.Example: .*", line)


def test_a_height_that_the_label_maps_do_not_have(dataset):
    def taller(data):
        entry = data.index(b"\x06height")
        at = data.index(bytes([40]), entry)
        return data[:at] + bytes([41]) + data[at + 1 :]

    name = replace_data(dataset, 0, taller)
    assert problems(dataset) == [
        f"{name}: record 0 (byte 0, 'folder/0.jpg'): height and width are 41x56, but 40x56 in regions/shape",
        f"{name}: record 0 (byte 0, 'folder/0.jpg'): the image is 40x56 (height x width), not 41x56 as the record says",
    ]


def test_an_image_that_comes_twice(tmp_path):
    shards = the_records()
    shards[1][1] = make_record(4, (0,), image_id="folder/1.jpg")
    shards[1][2] = make_record(5, (0,), image_id="folder/1.jpg")
    assert problems(write(tmp_path / "toy", shards)) == [
        f"{SHARDS[1]}: record 4: has the image_id of record 1 ({SHARDS[0]})",
        f"{SHARDS[1]}: record 5: has the image_id of record 4 ({SHARDS[1]})",
    ]


def test_two_shards_that_changed_places(tmp_path):
    first, second = the_records()
    folder = write(tmp_path / "toy", [first, second[:2]])
    (folder / SHARDS[0]).rename(folder / "other")
    (folder / SHARDS[1]).rename(folder / SHARDS[0])
    (folder / "other").rename(folder / SHARDS[1])
    assert problems(folder) == [
        f"{SHARDS[0]}: holds 2 records, not 3 as in the metadata and the index",
        f"{SHARDS[1]}: holds 3 records, not 2 as in the metadata and the index",
    ]


def test_two_shards_of_equal_lengths_that_changed_places(dataset):
    (dataset / SHARDS[0]).rename(dataset / "other")
    (dataset / SHARDS[1]).rename(dataset / SHARDS[0])
    (dataset / "other").rename(dataset / SHARDS[1])
    lines = problems(dataset)
    assert [line.partition(": has")[0] for line in lines] == [
        f"{SHARDS[0]}: record 0 (byte 0)",
        f"{SHARDS[1]}: record 3 (byte 0)",
    ]
    assert all("unlike the index" in line and line.endswith("; 2 later records differ too") for line in lines)


def test_other_shard_lengths(dataset):
    edit(dataset / "toy-train.json", shard_lengths=[2, 4])
    assert problems(dataset) == [
        "dataset_info.json: split 'train': shardLengths differ from shard_lengths in toy-train.json",
        f"{SHARDS[0]}: holds 3 records, not 2 as in the metadata",
        f"{SHARDS[1]}: holds 3 records, not 4 as in the metadata",
    ]


def test_the_search_goes_on_behind_broken_frames(dataset):
    flip_length(dataset)
    flip_data(dataset)
    path, offset, length = frame_of(dataset, 5)
    flip(path, offset + length - 1)
    (dataset / "toy-train.skipped.jsonl").unlink()
    assert [re.sub(r" \(.*", "", line) for line in problems(dataset)] == [
        "toy-train.skipped.jsonl: cannot be read",
        f"{SHARDS[0]}: record 1",
        f"{SHARDS[1]}: record 4",
        f"{SHARDS[1]}: record 5",
    ]


def test_without_an_index_a_shard_is_read_up_to_the_break(dataset):
    flip_data(dataset)
    (dataset / "toy-train.index.npy").unlink()
    lines = problems(dataset)
    assert len(lines) == 2
    assert lines[1].endswith("the data is corrupt (crc mismatch); the rest of the shard was not checked")


def test_many_problems_of_a_shard_are_counted(tmp_path):
    many = [make_record(i, (0,), num_regions=(1,)) for i in range(25)]
    folder = write(tmp_path / "toy", [many, [make_record(30, (0,), num_regions=(1,))]])
    _, verdict = verify.verify(folder)
    assert verdict.num_problems == 26 and len(verdict.problems) == 22
    assert verdict.problems[20] == f"{folder / SHARDS[0]}: ... and 5 more"
    assert "record 25 " in verdict.problems[21]


def test_two_splits_each_by_itself(dataset):
    write(dataset, [[make_record(i, (0, 1)) for i in range(2)]], split="validation")
    assert problems(dataset) == []
    edit(dataset / "toy-validation.json", num_bytes=5)
    _, train, validation = verify.verify(dataset)
    assert train.summary.startswith("toy-train: 6 images in 2 shards") and not train.problems
    assert len(validation.problems) == 1 and not validation.summary
    assert len(verify.verify(dataset, "train")) == 2
    assert problems(dataset, split="train") == []
    assert len(problems(dataset, split="validation")) == 1


def test_a_dataset_without_layers(tmp_path):
    folder = whole_datasets.write(tmp_path / "toy", [[make_record(0, ())]], layers=())
    assert verify.verify(folder)[1].summary == "toy-train: 1 images in 1 shard, 0 skipped, no regions: all sound"


def test_two_datasets_in_a_folder(dataset):
    whole_datasets.write(dataset, [[make_record(0, ())]], layers=(), name="coco", split="test")
    assert problems(dataset) == [f"{dataset}: holds several datasets: coco, toy; give each a folder of its own"]


def test_other_files_are_nobodys_business(dataset):
    for name in ("README.md", "toy-train.sheet.png", "LICENSE", "notes.json"):
        (dataset / name).touch()
    assert problems(dataset) == []


def test_no_dataset_and_no_split(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, split, message in (
        (tmp_path / "missing", None, "missing: no such folder; create a dataset with `python -m data_prep"),
        (tmp_path / "empty", None, "empty: no dataset here; create a dataset with"),
        (dataset, "test", "no split 'test' here, only train"),
    ):
        with pytest.raises(PrepError, match=message):
            verify.verify(folder, split)


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "data_prep.verify", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def test_the_command_says_that_all_is_sound(sound):
    result = command(sound, "--workers=2")
    assert result.returncode == 0
    assert re.fullmatch(SOUND + "\n", result.stdout)
    assert result.stderr == "6 images\n"


def test_the_command_says_what_is_broken(dataset, monkeypatch, capsys):
    expected = flip_data(dataset)
    (dataset / "features.json").unlink()
    monkeypatch.setattr(sys, "argv", ["verify", str(dataset), "--workers=1"])
    assert verify.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{dataset}/features.json: ")
    assert re.fullmatch(f"{dataset}/{expected}", lines[1])
    assert lines[2:] == [f"{dataset}: 2 problems"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: DATASET"),
        (["x", "--workers=0"], "'0' is not a number of processes, 1 or more"),
        (["x", "--split"], "argument --split: expected one argument"),
        (["missing"], "error: missing: no such folder; create a dataset with `python -m data_prep"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["verify", *arguments])
    try:
        status = verify.main()
    except SystemExit as caught:
        status = caught.code
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_it_without_a_traceback(tmp_path, workers):
    shard = [make_record(i, (0, 1)) for i in range(20)]
    folder = write(tmp_path / "toy", [shard] * 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.verify", folder, f"--workers={workers}"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr.readline() == "2000 images\n"
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")


def test_a_worker_that_dies_is_replaced(tmp_path):
    folder = write(tmp_path / "toy", [[make_record(i, (0, 1)) for i in range(20)]] * 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.verify", folder, "--workers=2"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(pids := children.read_text().split()) < 3:  # the first is Python's own resource tracker
        time.sleep(0.005)
    time.sleep(0.2)
    os.kill(int(pids[-1]), signal.SIGKILL)
    stdout, _ = process.communicate(timeout=30)
    undisturbed = command(folder, "--workers=1")
    assert (process.returncode, stdout) == (undisturbed.returncode, undisturbed.stdout)


def test_other_files_of_a_folder_are_not_a_split(dataset):
    for name in ("package-lock.json", "a-b-v1.json", "coco-val.jsonl"):
        (dataset / name).write_text("{}")
    assert problems(dataset) == []

"""Tars that Python's tarfile has written, as WebDataset lays them out."""

import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from data_prep.errors import PrepError
from data_prep.sources.source import Slice, Source
from data_prep.sources.webdataset import open_webdataset


def write(path, members, **options):
    """A tar of (name, bytes) or of ready TarInfo without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number, image=".jpg"):
    """Image, label and JSON of one sample."""
    return [
        (f"n01/{number:04d}{image}", b"image %d" % number),
        (f"n01/{number:04d}.cls", b"%d" % (number % 7)),
        (f"n01/{number:04d}.json", b'{"number": %d}' % number),
    ]


@pytest.fixture
def shards(tmp_path):
    """Eleven samples in four tars."""
    folder = tmp_path / "shards"
    for shard, numbers in enumerate([range(4), range(4, 5), range(5, 9), range(9, 11)]):
        write(folder / f"train-{shard:06d}.tar", [part for number in numbers for part in sample(number)])
    return folder


def found(images):
    return [(item.image_id, item.read(), item.label) for item in images]


def everything(source):
    return found(source.slice(0, source.num_images))


def only(path):
    """The one image of a tar."""
    source = open_webdataset(str(path))
    assert source.num_images == 1
    return next(iter(source.slice(0, 1)))


EXPECTED = [(f"n01/{number:04d}.jpg", b"image %d" % number, number % 7) for number in range(11)]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "/train-{000000..000003}.tar",
        "/train-00000{0..3}.tar",
        "/train-00000{0,1,2,3}.tar",
        "/train-*.tar",
        "/train-00000?.tar",
        "/train-{000000..000001}.tar::{folder}/train-00000[23].tar",
    ],
)
def test_samples_in_order(shards, spec):
    source = open_webdataset(str(shards) + spec.replace("{folder}", str(shards)))
    assert everything(source) == EXPECTED
    assert source.kind == "webdataset" and source.num_images == 11 and source.classes == ()
    assert isinstance(source, Source) and isinstance(source.slice(0, 1), Slice)
    assert [entry.name for entry in source.inputs()] == [f"train-{i:06d}.tar" for i in range(4)]
    assert [entry.size for entry in source.inputs()] == [path.stat().st_size for path in sorted(shards.iterdir())]


def test_every_slice_is_a_part_of_the_whole(shards):
    source = open_webdataset(str(shards))
    for start in range(12):
        for stop in range(start, 12):
            part = source.slice(start, stop)
            assert len(part) == stop - start
            assert found(part) == EXPECTED[start:stop]


def test_slices_are_small_and_picklable(shards):
    part = open_webdataset(str(shards)).slice(2, 10)
    pickled = pickle.dumps(part)
    assert len(pickled) < 1000
    assert found(pickle.loads(pickled)) == EXPECTED[2:10]


def test_items_can_be_read_later_and_in_any_order(shards):
    items = list(open_webdataset(str(shards)).slice(0, 11))
    assert found(reversed(items)) == EXPECTED[::-1]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("{b,a}-{1..3}.tar", "b-1 b-2 b-3 a-1 a-2 a-3"),
        ("a-{3..1}.tar", "a-3 a-2 a-1"),
        ("n-{8..11}.tar", "n-8 n-9 n-10 n-11"),
        ("n-{08..11}.tar", "n-08 n-09 n-10 n-11"),
        ("n-{8..011}.tar", "n-008 n-009 n-010 n-011"),
        ("{a}-{0..0}.tar", "{a}-0"),
        ("a{,x}-1.tar", "a-1 ax-1"),
        ("[a]-1.tar", "[a]-1"),
    ],
)
def test_braces_are_those_of_shells(tmp_path, monkeypatch, spec, names):
    monkeypatch.chdir(tmp_path)
    for name in names.split():
        write(Path(f"{name}.tar"), sample(1))
    assert [path.stem for path in open_webdataset(spec).files.paths] == names.split()


def test_names_of_inputs_do_not_change_when_shards_move(tmp_path, monkeypatch):
    for folder in ("here", "there"):
        write(tmp_path / folder / "a" / "1.tar", sample(1))
        write(tmp_path / folder / "b" / "1.tar", sample(2))
    monkeypatch.chdir(tmp_path / "here" / "a")
    for spec in (
        str(tmp_path / "there"),
        f"{tmp_path}/here/*/1.tar",
        "../{a,b}/1.tar",
        f"1.tar::{tmp_path}/here/b/1.tar",
    ):
        assert [entry.name for entry in open_webdataset(spec).inputs()] == ["a/1.tar", "b/1.tar"]


def test_hidden_files_of_a_folder_are_passed_over(shards):
    (shards / "._train-000000.tar").write_bytes(b"of another system")
    (shards / "list.txt").touch()
    assert open_webdataset(str(shards)).num_images == 11


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{shards}/train-{000000..000004}.tar", "train-000004.tar: no such file; give the tar shards"),
        ("{shards}/test-*.tar", r"test-\*.tar: no such file"),
        ("{shards}/../empty", "empty: no .tar files below this folder"),
        ("{shards}/train-00000{0,0}.tar", "names .*train-000000.tar 2 times"),
        ("{shards}/*.tar::{shards}/train-000003.tar", "names .*train-000003.tar 2 times"),
        ("{shards}/train-{00000{0,1},000002}.tar", "nested braces are not supported"),
        ("pipe:cat x.tar", "shards are read from files, not from commands"),
        ("https://host/{000..127}.tar", "https:// is not supported; give a local path, or one with gs://"),
        ("", "no such file"),
    ],
)
def test_what_is_not_there(shards, spec, message):
    (shards.parent / "empty").mkdir()
    with pytest.raises(PrepError, match=message) as caught:
        open_webdataset(spec.replace("{shards}", str(shards)) if spec else str(shards.parent / "none"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "image"),
    [
        (["a.png", "a.jpg"], "a.jpg"),
        (["a.jpg", "a.png"], "a.jpg"),
        (["a.png", "a.jpeg", "a.jpg"], "a.jpeg"),
        (["a.webp", "a.png"], "a.webp"),
        (["a.seg.png", "a.png"], "a.png"),
        (["a.0.jpg", "a.JPEG"], "a.JPEG"),
        (["dir.1/a.PNG", "dir.1/a.txt"], "dir.1/a.PNG"),
        (["./a.jpg"], "./a.jpg"),
        (["a.txt", "b.gif", "c.json"], "b.gif"),
        ([".hidden.jpg", "README", "b.jpg", "c/.jpg"], "b.jpg"),
        (["ä ö.jpg"], "ä ö.jpg"),
    ],
)
def test_which_member_is_the_image(tmp_path, names, image):
    item = only(write(tmp_path / "a.tar", [(name, name.encode()) for name in names]))
    assert (item.image_id, item.read(), item.label) == (image, image.encode(), -1)


def test_samples_without_an_image_are_passed_over(tmp_path):
    rows = [*sample(0, ".txt"), *sample(1), *sample(2, ".mp4"), *sample(3, ".png"), *sample(4, ".txt")]
    source = open_webdataset(str(write(tmp_path / "a.tar", rows)))
    assert [image_id for image_id, _, _ in everything(source)] == ["n01/0001.jpg", "n01/0003.png"]
    assert found(source.slice(1, 2)) == [("n01/0003.png", b"image 3", 3)]


def test_other_members_of_the_sample(shards):
    for number, item in enumerate(open_webdataset(str(shards)).slice(0, 11)):
        assert item.beside(".json") == b'{"number": %d}' % number
        assert item.beside(".jpg") == item.read()
        with pytest.raises(FileNotFoundError, match="no n01/00.*.png"):
            item.beside(".png")


@pytest.mark.parametrize(("text", "label"), [(b"7", 7), (b" 42\n", 42), (b"-1", -1), (b"0", 0)])
def test_labels(tmp_path, text, label):
    for rows in ([("a.jpg", b"x"), ("a.cls", text)], [("a.cls", text), ("a.jpg", b"x")]):
        assert only(write(tmp_path / "a.tar", rows)).label == label


@pytest.mark.parametrize("text", [b"", b"cat", b"1.5", b"-2", b"9" * 19, b" " * 40 + b"1", b"\xff"])
def test_what_is_no_label_makes_the_image_bad(tmp_path, text):
    item = only(write(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.cls", text), ("a.json", b"{}")]))
    with pytest.raises(OSError, match="a.cls is not a whole number"):
        item.read()
    assert item.label == -1 and item.beside(".json") == b"{}"


def odd(name, kind, **attributes):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_odd_members(tmp_path, format):
    """Directories, links and devices are no images, long names and headers of further attributes are understood."""
    long = "x" * 90 + "/" + "y" * 80
    rows = [
        odd("n01.jpg", tarfile.DIRTYPE),
        ("n01.jpg/a.jpg", b"a"),
        odd("n01.jpg/b.jpg", tarfile.SYMTYPE, linkname="a.jpg"),
        odd("n01.jpg/c.jpg", tarfile.LNKTYPE, linkname="n01.jpg/a.jpg"),
        odd("n01.jpg/d.jpg", tarfile.FIFOTYPE),
        odd("n01.jpg/e.jpg", tarfile.CHRTYPE),
        (f"{long}.jpg", b"long"),
        (f"{long}.cls", b"5"),
        ("empty.jpg", b""),
    ]
    options = {"pax_headers": {"comment": "of all members"}} if format == tarfile.PAX_FORMAT else {}
    source = open_webdataset(str(write(tmp_path / "a.tar", rows, format=format, **options)))
    assert everything(source) == [("n01.jpg/a.jpg", b"a", -1), (f"{long}.jpg", b"long", 5), ("empty.jpg", b"", -1)]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("format", ["gnu", "pax"])
def test_sparse_files_are_passed_over(tmp_path, format):
    """Their content does not lie in the tar as it is."""
    (tmp_path / "b.jpg").write_bytes(b"b")
    with (tmp_path / "a.jpg").open("wb") as out:
        out.seek(1 << 20)
        out.write(b"behind a hole")
    command = ["tar", "--sparse", f"--format={format}", "-C", tmp_path, "-cf", tmp_path / "a.tar", "a.jpg", "b.jpg"]
    subprocess.run(command, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 1 << 20
    assert everything(open_webdataset(str(tmp_path / "a.tar"))) == [("b.jpg", b"b", -1)]


def test_very_long_names(tmp_path):
    name = "/".join(["d" * 200] * 5)
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert only(write(tmp_path / "a.tar", [(f"{name}.jpg", b"x")], format=format)).image_id == f"{name}.jpg"


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    path = write(tmp_path / "a.tar", [(name, b"x")], format=tarfile.GNU_FORMAT, encoding="utf-8")
    assert os.fsencode(only(path).image_id) == b"\xff.jpg"


def test_two_members_of_one_name(tmp_path):
    path = write(tmp_path / "a.tar", [("a.jpg", b"1"), ("a.JPG", b"2")])
    with pytest.raises(PrepError, match="a.tar: a.jpg and a.JPG have the same suffix in one sample"):
        open_webdataset(str(path))


def test_members_of_a_sample_that_are_apart(tmp_path):
    path = write(tmp_path / "a.tar", [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.cls", b"3")])
    with pytest.raises(PrepError, match="members of sample a are not consecutive; write the tar in name order"):
        open_webdataset(str(path))


def test_the_same_key_in_two_tars(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tar", sample(1))
    assert everything(open_webdataset(str(tmp_path))) == [EXPECTED[1]] * 2


@pytest.mark.parametrize(("rows", "what"), [([], "no files"), ([("a.txt", b"x"), ("b.1.jpg", b"")], ".1.jpg .txt")])
def test_a_tar_without_images(shards, rows, what):
    write(shards / "train-000004.tar", rows)
    with pytest.raises(
        PrepError, match=f"train-000004.tar: no images: looked for .avif .bmp .*, found {re.escape(what)}$"
    ):
        open_webdataset(str(shards))


def damaged(content, how):
    """The bytes of a tar of three members of one block each, changed."""
    second = content.index(b"n01/0001.cls")
    match how:
        case "empty":
            return b""
        case "text":
            return b"not a tar at all\n" * 100
        case "compressed":
            import gzip

            return gzip.compress(content)
        case "in a header":
            return content[: second + 100]
        case "in a body":
            return content[: second + 512 + 1]
        case "between members":
            return content[:second]
        case "a header's byte":
            return content[: second + 3] + b"\x01" + content[second + 4 :]
        case "joined":
            return content + content


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", "empty"),
        ("text", "not a plain tar"),
        ("compressed", "not a plain tar .*copy it again, uncompressed"),
        ("in a header", "byte 1024: "),
        ("in a body", "truncated, corrupt or not a plain tar"),
        ("between members", "byte 1024: no end mark, so the tar is truncated"),
        ("a header's byte", "byte 1024: neither a header nor the end"),
        ("joined", "byte 3072: neither a header nor the end"),
    ],
)
def test_damaged_tars(shards, how, message):
    path = shards / "train-000000.tar"
    write(path, sample(1))
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(PrepError, match=f"train-000000.tar: .*{message}") as caught:
        open_webdataset(str(shards))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_no_cut_goes_unnoticed(tmp_path, format):
    """Wherever the file ends: but for the second block of the end mark, and the padding behind it."""
    path = write(tmp_path / "a.tar", [("x" * 200 + ".jpg", b"1" * 600), ("ö.jpg", b"2")], format=format)
    content = path.read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    for size in range(0, end + 512, 64):
        path.write_bytes(content[:size])
        with pytest.raises(PrepError):
            open_webdataset(str(path))
    path.write_bytes(content[: end + 512])
    assert open_webdataset(str(path)).num_images == 2


def test_tars_that_change_after_planning(shards):
    source = open_webdataset(str(shards))
    write(shards / "train-000000.tar", sample(0) + sample(1))
    assert found(source.slice(0, 2)) == EXPECTED[:2]
    with pytest.raises(OSError, match="train-000000.tar has fewer images than when the job was planned"):
        list(source.slice(0, 3))
    (shards / "train-000001.tar").write_bytes(b"\x01" * 512)
    with pytest.raises(OSError, match="train-000001.tar: truncated, corrupt or not a plain tar"):
        list(source.slice(4, 5))
    item = next(iter(source.slice(9, 10)))
    (shards / "train-000003.tar").write_bytes((shards / "train-000003.tar").read_bytes()[:515])
    with pytest.raises(OSError, match="train-000003.tar: n01/0009.jpg is truncated"):
        item.read()


def read_bytes():
    """What this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts the bytes that are read")
def test_little_is_read_and_kept_for_a_slice(tmp_path):
    """Of 40 samples with 64 MB each, holes in the file."""
    path = tmp_path / "a.tar"
    size = 64 << 20
    with path.open("wb") as out:
        for number in range(40):
            for name, length in ((f"{number}.jpg", 5), (f"{number}.npy", size)):
                info = tarfile.TarInfo(name)
                info.size = length
                out.write(info.tobuf())
                out.write(b"%05d" % number if length == 5 else b"")
                out.seek(512 - 5 if length == 5 else size, os.SEEK_CUR)
        out.write(bytes(1024))
    tracemalloc.start()
    before = read_bytes()
    try:
        source = open_webdataset(str(path))
        assert found(source.slice(37, 39)) == [("37.jpg", b"00037", -1), ("38.jpg", b"00038", -1)]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert read_bytes() - before < 8 << 20


def test_headers_are_not_kept(tmp_path):
    rows = ((f"{number:06d}.jpg", struct.pack("<I", number)) for number in range(3000))
    source = open_webdataset(str(write(tmp_path / "a.tar", rows)))
    tracemalloc.start()
    try:
        assert [item.read() for item in source.slice(2999, 3000)] == [struct.pack("<I", 2999)]
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()

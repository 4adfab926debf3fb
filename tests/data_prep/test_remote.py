"""Jobs on gs:// paths, with an object store in memory: they give the files that the same jobs give on local paths."""

import json
import shlex
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from etils.epath import backend as epath_backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from PIL import Image

from data_prep import __main__, plan, show, verify
from data_prep import job as jobs
from data_prep.errors import PrepError
from data_prep.regions import coco_annotations
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import parse_path, read_range, remove_tree, subfolders, walk_files
from data_prep.storage.remote import RemotePath

HERE = {"workers": 1}
BEAM = {"beam_options": ["--runner=DirectRunner", "--direct_running_mode=in_memory"]}
ROOT = "gs://bucket/some where"


class Store(MemoryFileSystem):
    """Objects in memory, with no folders but those that their names make; and with errors where a test wants them."""

    protocol = ("gs", "gcs")
    store = {}  # noqa: RUF012
    broken = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.partition("://")[2] if "://" in path else path)

    def makedirs(self, path, exist_ok=False):
        """An object store makes none."""

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._fail("read", path)
        return super().cat_file(path, start, end, **kwargs)

    def put_file(self, lpath, rpath, **kwargs):
        self._fail("write", rpath)
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def info(self, path, **kwargs):
        self._fail("info", path)
        return super().info(path, **kwargs)

    def _fail(self, what, path):
        if what in self.broken and path.endswith(self.broken[what]):
            raise self.broken["error"]


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty store as gs://, which tfds knows through epath by another name."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for scheme in Store.protocol:
        monkeypatch.setitem(_registry, scheme, Store)
    epath_backend.fsspec_backend._get_filesystem.cache_clear()
    yield Store
    Store.store.clear()
    Store.broken.clear()
    Store.clear_instance_cache()
    epath_backend.fsspec_backend._get_filesystem.cache_clear()
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]  # nothing is left on this machine


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Eight images in two class folders, one of them damaged, with all kinds of regions, as tars and as TFDS."""
    root = tmp_path_factory.mktemp("local")
    rng = np.random.default_rng(0)
    listed, instances, segments = [], [], []
    names = [f"{'ab'[number % 2]}/{number}.jpg" for number in range(8)]
    for folder in ("images", "masks", "labels", "panoptic"):
        for name in "ab":
            (root / folder / name).mkdir(parents=True)
    (root / "tars").mkdir()
    for number, name in enumerate(names):
        blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        blocks.resize((64, 48), Image.Resampling.BICUBIC).save(root / "images" / name)
        listed.append({"id": number, "file_name": name, "height": 48, "width": 64})
        polygons = [[[5, 5, 30, 5, 30, 30]], [[20, 20, 40, 20, 40, 40, 20, 40]]]
        instances += [{"image_id": number, "segmentation": polygon} for polygon in polygons]
        segments.append({"image_id": number, "file_name": f"{name[:-4]}.png", "segments_info": [{"id": 3}]})
        colours = np.zeros((48, 64, 3), np.uint8)
        colours[9:20, :, 0] = 3
        Image.fromarray(colours).save(root / "panoptic" / f"{name[:-4]}.png")
        masks = {"image": listed[-1], "annotations": [{"segmentation": polygon} for polygon in polygons]}
        (root / "masks" / f"{name[:-4]}.json").write_text(json.dumps(masks))
        np.save(root / "labels" / f"{name[:-4]}.npy", np.eye(48, 64, dtype=np.int32) * 7)
        with tarfile.open(root / "tars" / f"train-{number // 3:02}.tar", "a") as tar:
            tar.add(root / "images" / name, f"{number}.jpg")
            tar.add(root / "masks" / f"{name[:-4]}.json", f"{number}.json")
    (root / "images" / names[3]).write_bytes((root / "images" / names[3]).read_bytes()[:99])
    listed.append({"id": 99, "file_name": "a/missing.jpg", "height": 48, "width": 64})
    for name, entries in (("instances", instances), ("panoptic", segments)):
        (root / f"{name}.json").write_text(json.dumps({"images": listed, "annotations": entries}))
    jobs.prepare(
        root / "images", root / "tfds" / "photos" / "1.0.0", regions="none", name="photos", workers=1, max_bad=1.0
    )
    return root


JOBS = {
    "everything": "--images=ROOT/images --shards=3 --scales=60 --regions=fh,instances:ROOT/instances.json,"
    "panoptic:ROOT/panoptic.json,sam:ROOT/masks,label_maps:ROOT/labels",
    "classes": "--images=ROOT/images --classes --regions=none",
    "listed": "--images=ROOT/images --annotations=ROOT/instances.json --regions=instances",
    "tars by number": "--webdataset=ROOT/tars/train-{00..02}.tar --regions=sam --shards=2",
    "tars by pattern": "--webdataset=ROOT/t*s/train-*.tar --regions=none",
    "tars in a folder": "--webdataset=ROOT/tars --regions=none",
    "tfds by folder": "--tfds=ROOT/tfds/photos/1.0.0:train --regions=none --shards=2",
    "tfds by name": "--tfds=photos:train --tfds_dir=ROOT/tfds --regions=none",
}


def planned(job, root, output=None, **changes):
    arguments = [word.replace("ROOT", str(root)) for word in shlex.split(JOBS[job])]
    options = {}
    for argument in arguments:
        name, _, value = argument[2:].partition("=")
        convert = {"images": parse_path, "annotations": parse_path, "tfds_dir": parse_path, "shards": int}
        convert |= {"classes": lambda _: True, "scales": lambda text: (int(text),)}
        options[name] = convert.get(name, str)(value)
    output = parse_path(f"{root}/out") if output is None else output
    return plan.plan(plan.Options(output=output, **options | changes))


def run(*arguments, engine=HERE, overwrite=False, **changes):
    return jobs.run(planned(*arguments, **changes), **engine, max_bad=0.5, overwrite=overwrite)


def contents(folder):
    """The files of a dataset; of those that it was made from, only names and sizes, for the times differ."""
    found = {name: (folder / name).read_bytes() for name in walk_files(folder)}
    for name in found:
        if name.endswith(".inputs.jsonl"):
            found[name] = [json.loads(line)[:2] for line in found[name].splitlines()]
    return found


@pytest.fixture(scope="module")
def expected(local, tmp_path_factory):
    """The files of each job on local paths."""
    found = {}

    def of(job):
        if job not in found:
            output = tmp_path_factory.mktemp("expected") / "out"
            run(job, local, output)
            found[job] = contents(output)
        return found[job]

    return of


def upload(folder, url):
    for name in walk_files(folder):
        (RemotePath(url) / name).put(folder / name)


@pytest.mark.parametrize("engine", [HERE, BEAM], ids=["here", "beam"])
@pytest.mark.parametrize("job", JOBS)
def test_objects_and_files_give_the_same_bytes(store, local, expected, job, engine):
    if engine is BEAM:
        pytest.importorskip("apache_beam")
    upload(local, ROOT)
    run(job, ROOT, engine=engine)
    assert contents(RemotePath(f"{ROOT}/out")) == expected(job)
    assert run(job, ROOT, engine=engine)["num_examples"] > 0  # nothing is left to do


def test_objects_from_files_and_files_from_objects(store, local, expected, tmp_path):
    upload(local, ROOT)
    run("everything", local, RemotePath("gs://other/out"))
    run("everything", ROOT, tmp_path / "out")
    assert contents(RemotePath("gs://other/out")) == contents(tmp_path / "out") == expected("everything")


@pytest.mark.parametrize("engine", [HERE, BEAM], ids=["here", "beam"])
def test_a_shard_that_cannot_be_written_is_written_by_the_next_run(store, local, expected, engine):
    upload(local, ROOT)
    store.broken.update(write="00001-of-00003", error=OSError("the\nnetwork is down"))
    with pytest.raises(PrepError) as caught:
        run("everything", ROOT, engine=engine)
    message = (
        "regions-train.tfrecord-00001-of-00003 (PrepError: gs://bucket/some where/out/regions-train.tfrecord-00001-"
    )
    assert str(caught.value).startswith(f"1 of 3 shards failed: {message}of-00003: the network is down)")
    kept = {name: file for name, file in store.store.items() if "/out/regions-train.tfrecord-" in name}
    assert [name[-14:] for name in sorted(kept)] == ["00000-of-00003", "00002-of-00003"]
    store.broken.clear()
    run("everything", ROOT, engine=engine)
    assert contents(RemotePath(f"{ROOT}/out")) == expected("everything")
    assert all(store.store[name] is file for name, file in kept.items())


def test_a_shard_of_the_wrong_size_is_written_again(store, local, expected):
    upload(local, ROOT)
    store.broken.update(write="00001-of-00003", error=OSError("broken"))
    with pytest.raises(PrepError):
        run("everything", ROOT)
    store.broken.clear()
    store().pipe_file(f"{ROOT}/out/regions-train.tfrecord-00002-of-00003", b"half an object")
    run("everything", ROOT)
    assert contents(RemotePath(f"{ROOT}/out")) == expected("everything")


@pytest.mark.parametrize("what", ["read", "info"])
def test_no_image_is_left_out_because_its_store_did_not_answer(store, local, what):
    upload(local, ROOT)
    job = planned("everything", ROOT)
    store.broken.update({what: "b/5.jpg" if what == "read" else "b/5.npy", "error": OSError("no answer")})
    with pytest.raises(PrepError, match=r"1 of 3 shards failed: .*5.(jpg|npy): no answer"):
        jobs.run(job, workers=1, max_bad=1.0)
    store.broken.clear()
    assert jobs.run(job, workers=1, max_bad=1.0)["num_skipped"] == 1


def test_other_options_and_changed_objects_are_refused(store, local, expected):
    upload(local, ROOT)
    run("listed", ROOT)
    with pytest.raises(
        PrepError, match="earlier run with other inputs: max_pixels 67108864, now 5000; use --overwrite"
    ):
        run("listed", ROOT, max_pixels=5000)
    image = RemotePath(f"{ROOT}/images/a/4.jpg")
    image.put(local / "images" / "a" / "4.jpg")
    with pytest.raises(PrepError, match="a/4.jpg was modified: 20..-..-.. .*; use --overwrite"):
        run("listed", ROOT)
    run("listed", ROOT, overwrite=True, shards=2)
    assert len(list(RemotePath(f"{ROOT}/out").glob("*.tfrecord-*"))) == 2
    run("listed", ROOT, overwrite=True)
    assert contents(RemotePath(f"{ROOT}/out")) == expected("listed")


def test_splits_share_a_folder(store, local, tmp_path):
    upload(local, ROOT)
    for root, output in ((local, tmp_path / "out"), (ROOT, None)):
        run("listed", root, output)
        run("classes", root, output, split="validation", classes=False)
        with pytest.raises(PrepError, match="the classes are not those of split 'train'"):
            run("classes", root, output, split="test")
    assert contents(RemotePath(f"{ROOT}/out")) == contents(tmp_path / "out")


def test_what_is_not_there(store, local, tmp_path):
    upload(local, ROOT)
    for change, message in (
        (
            {"images": "gs://bucket/nothing"},
            "gs://bucket/nothing is not a folder; give the folder that contains the images",
        ),
        ({"annotations": f"{ROOT}/x.json"}, "x.json cannot be read: No such file or directory; give a COCO annotation"),
        ({"output": f"{ROOT}/instances.json"}, "instances.json is a file; give a folder for the dataset"),
    ):
        with pytest.raises(PrepError, match=message):
            planned("listed", ROOT, **{name: RemotePath(url) for name, url in change.items()})
    with pytest.raises(PrepError, match="x.json is missing; give a COCO-style annotation file"):
        planned("listed", ROOT, regions=f"instances:{ROOT}/x.json")
    for spec in (f"{ROOT}/x-{{0..1}}.tar", f"{ROOT}/x*.tar", "gs://*/x.tar"):
        with pytest.raises(PrepError, match="no such file; give the tar shards as a folder"):
            planned("tars in a folder", ROOT, webdataset=spec)
    for spec, message in (
        (f"{ROOT}/tfds/photos/1.0.0", "does not name a dataset and a split"),
        (f"{ROOT}/nothing:train", "is neither a folder that contains dataset_info.json"),
        (f"{ROOT}/tfds/photos/1.0.0:test", "has no split 'test'; its splits are train"),
    ):
        with pytest.raises(PrepError, match=message):
            planned("tfds by folder", ROOT, tfds=spec)
    RemotePath(f"{ROOT}/instances.json").put(local / "images" / "a" / "0.jpg")
    with pytest.raises(PrepError, match="instances.json is not JSON"):
        run("everything", ROOT)
    assert not list(RemotePath(f"{ROOT}/out").iterdir())


def test_array_record_files_are_read_from_local_disks_only(store, local):
    upload(local / "tfds" / "photos" / "1.0.0", ROOT)
    info = RemotePath(f"{ROOT}/dataset_info.json").read_text().replace('"tfrecord"', '"array_record"')
    store().pipe_file(f"{ROOT}/dataset_info.json", info.encode())
    with pytest.raises(PrepError, match="array_record files are read only from local disks; copy the folder to one"):
        planned("tfds by folder", ROOT, tfds=f"{ROOT}:train")


def test_a_machine_copies_annotations_once(store, local, monkeypatch):
    upload(local, ROOT)
    listed = coco_annotations.index(
        RemotePath(f"{ROOT}/instances.json"), RemotePath(f"{ROOT}/scratch"), ("segmentation",)
    )
    assert isinstance(listed.database, RemotePath)
    copied = []
    get = RemotePath.get
    monkeypatch.setattr(RemotePath, "get", lambda self, path: copied.append(path) or get(self, path))
    assert [len(listed.find(f"a/{number}.jpg")[1]) for number in (0, 2, 0)] == [2, 2, 2]
    assert len(copied) == 1
    remove_tree(RemotePath(f"{ROOT}/scratch"))
    assert not RemotePath(f"{ROOT}/scratch").exists()


def test_remote_paths_tell_what_local_ones_tell(store, local):
    upload(local, ROOT)
    remote = RemotePath(ROOT)
    assert sorted(walk_files(remote)) == sorted(walk_files(local))
    for name in ("", "images", "images/a", "images/a/0.jpg", "nothing", "images/a/nothing.jpg", "image", "tars.d"):
        ours, theirs = remote / name, local / name
        for tell in ("exists", "is_dir", "is_file"):
            assert getattr(ours, tell)() == getattr(theirs, tell)(), (name, tell)
        if theirs.is_dir():
            assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in theirs.iterdir())
            assert sorted(subfolders(ours)) == sorted(subfolders(theirs))
            for pattern in ("*", "*.jpg", "[ab]", "*/*.jpg", "i*/a"):
                found = [[str(path)[len(str(root)) :] for path in root.glob(pattern)] for root in (ours, theirs)]
                assert sorted(found[0]) == sorted(found[1]), pattern
        elif theirs.is_file():
            assert ours.stat().st_size == theirs.stat().st_size
            assert (ours.read_bytes(), ours.name, ours.suffix) == (theirs.read_bytes(), theirs.name, theirs.suffix)
            assert str(ours.with_suffix(".png")) == f"{ROOT}/{Path(name).with_suffix('.png')}"
            for start, size in ((0, 10), (5, 10**9), (10**9, 5), (7, 0)):
                assert read_range(ours, start, size) == read_range(theirs, start, size)
        else:
            for failing in (ours.stat, ours.read_bytes, ours.open, ours.unlink):
                with pytest.raises(FileNotFoundError, match="No such file or directory: 'gs://bucket/some where/"):
                    failing()
            ours.unlink(missing_ok=True)
    assert parse_path(f"{ROOT}/images/") == remote / "images" and parse_path(remote) is remote
    assert parse_path("a/b") == Path("a/b")
    with pytest.raises(ValueError, match="objects are only read"):
        (remote / "x").open("wb")


def test_an_open_object_reads_as_a_file_does(store, tmp_path):
    content = np.random.default_rng(0).bytes(9_000_000)  # more than two requests
    (tmp_path / "file").write_bytes(content)
    RemotePath("gs://bucket/file").put(tmp_path / "file")
    with RemotePath("gs://bucket/file").open("rb") as ours, (tmp_path / "file").open("rb") as theirs:
        for offset, whence, size in (
            (0, 0, 10),
            (100, 1, 5_000_000),
            (-7, 2, 100),
            (4_194_300, 0, 9),
            (10**8, 0, 5),
            (3, 0, -1),
        ):
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            assert ours.read(size) == theirs.read(size)
            assert ours.tell() == theirs.tell()


def test_an_object_is_replaced_whole_or_not_at_all(store):
    path = RemotePath("gs://bucket/file")
    for content in (b"", b"earlier"):
        with atomic_write(path, RemotePath("gs://bucket/scratch")) as out:
            out.write(content)
            assert not path.exists() or path.read_bytes() == b""
        assert path.read_bytes() == content
    with pytest.raises(KeyError), atomic_write(path, path.parent) as out:
        out.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"earlier"


def test_an_object_that_arrives_cut_short_is_noticed(store, monkeypatch):
    monkeypatch.setattr(store, "put_file", lambda self, path, url: self.pipe_file(url, Path(path).read_bytes()[:-1]))
    with pytest.raises(PrepError, match="gs://bucket/file: 3 of 4 bytes arrived; run again"):  # noqa: SIM117
        with atomic_write(RemotePath("gs://bucket/file"), RemotePath("gs://bucket")) as out:
            out.write(b"1234")


def command(module, monkeypatch, capsys, *arguments):
    """Runs a command line in this process; gives its status and what it prints."""
    monkeypatch.setattr(sys, "argv", ["data_prep", *arguments])
    return module.main(), *capsys.readouterr()


def test_the_command_line_takes_urls(store, local, expected, monkeypatch, capsys):
    upload(local, ROOT)
    arguments = [word.replace("ROOT", ROOT) for word in shlex.split(JOBS["everything"])]
    status, out, _ = command(
        __main__, monkeypatch, capsys, *arguments, f"--output={ROOT}/out/", "--workers=1", "--max_bad=0.5"
    )
    assert status == 0 and out.endswith(f": {ROOT}/out\n")
    assert contents(RemotePath(f"{ROOT}/out")) == expected("everything")


def test_verify_and_show_look_at_objects(store, local, monkeypatch, capsys, tmp_path):
    upload(local, ROOT)
    run("listed", ROOT)
    run("listed", local, tmp_path / "out")
    assert command(verify, monkeypatch, capsys, f"{ROOT}/out", "--workers=1")[:2] == (
        0,
        "regions-train: 7 images in 2 shards, 2 skipped, instances 14 regions: all sound\n",
    )
    pictures = []
    for folder in (ROOT + "/out", tmp_path / "out"):
        assert command(show, monkeypatch, capsys, str(folder))[:2] == (0, f"{folder}/regions-train.sheet.png\n")
        pictures.append(parse_path(f"{folder}/regions-train.sheet.png").read_bytes())
    assert pictures[0] == pictures[1]
    shard = RemotePath(f"{ROOT}/out/regions-train.tfrecord-00001-of-00002")
    store().pipe_file(shard.url, shard.read_bytes()[:-1])
    status, out, _ = command(verify, monkeypatch, capsys, f"{ROOT}/out", "--workers=1")
    assert status == 1 and f"{shard}: record 6 (byte " in out and "truncated" in out
    assert command(verify, monkeypatch, capsys, "gs://bucket/nothing")[0] == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/x", "gs:// paths need gcsfs: pip install -e .[gcs]"),
        ("s3://bucket/x", "s3:// paths need s3fs: pip install s3fs"),
        ("az://container/x", "az:// paths need adlfs: pip install adlfs"),
        ("ftp://host/x", "ftp:// is not supported; give a local path, or one with gs://, s3://, az://"),
    ],
)
def test_what_a_url_needs(monkeypatch, capsys, tmp_path, url, message):
    for package in ("gcsfs", "s3fs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    given = (f"--images={url}", f"--webdataset={url}", f"--tfds={url}:train", f"--output={url}")
    for one in given:
        arguments = [one, f"--output={tmp_path}/out"] if one != given[-1] else [one, f"--images={tmp_path}"]
        assert command(__main__, monkeypatch, capsys, *arguments) == (1, "", f"error: {message}\n")
    assert not (tmp_path / "out").exists()

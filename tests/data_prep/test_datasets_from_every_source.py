"""Datasets from every source of images and of regions, read back by tfds, by pycocotools and by training."""

import json
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from data_prep import job as jobs
from data_prep import shipped_photographs
from rmae_jax.data import TFRecordSource
from rmae_jax.data.examples import RandomExamples, center_examples

EVERYTHING = ["fh_60", "instances", "panoptic", "sam", "label_maps"]


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Six small photographs with overlapping polygons, panoptic segments, SAM masks and label maps; one has nothing."""
    root = tmp_path_factory.mktemp("coco")
    shipped_photographs.write(root / "full")
    for name in ("images", "panoptic", "masks", "labels"):
        (root / name).mkdir()
    images, instances, segments = [], [], []
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted((root / "full" / "train").iterdir())[:6]):
        with Image.open(path) as photograph:
            photograph = photograph.convert("RGB")
        photograph.thumbnail((96, 96))
        width, height = photograph.size
        photograph.save(root / "images" / f"{number}.jpg", quality=95)
        images.append({"id": 100 + number, "file_name": f"{number}.jpg", "height": height, "width": width})
        blobs = rng.random((4, height, width)) < 0.5
        if number < 5:  # the last one has no instances
            for box in range(3):
                x, y = 5 + 10 * box, 5 + 7 * box
                polygon = [x, y, x + 30, y, x + 30, y + 25, x, y + 25]
                crowd = {"size": [height, width], "counts": run_lengths(blobs[3])}
                instances.append(
                    {
                        "id": len(instances) + 1,
                        "image_id": 100 + number,
                        "category_id": 1,
                        "iscrowd": int(box == 2),
                        "segmentation": crowd if box == 2 else [polygon],
                    }
                )
        ids = 300 * (1 + np.arange(width) // 40)[None] * np.ones((height, 1), np.int64)
        Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], -1).astype(np.uint8)).save(
            root / "panoptic" / f"{number}.png"
        )
        listed = [{"id": int(i), "category_id": 1} for i in np.unique(ids)[:2]]  # the last segment is not
        segments.append({"image_id": 100 + number, "file_name": f"{number}.png", "segments_info": listed})
        rles = coco_mask.encode(np.asfortranarray(blobs.transpose(1, 2, 0).astype(np.uint8)))
        masks = [{"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}} for rle in rles]
        entry = {"image": {"height": height, "width": width}, "annotations": masks if number < 5 else []}
        (root / "masks" / f"{number}.json").write_text(json.dumps(entry))
        np.save(root / "labels" / f"{number}.npy", np.where(blobs[0], 7, 0) if number < 5 else np.zeros_like(ids))
    categories = [{"id": 1, "name": "thing"}]
    for name, annotations in (("instances", instances), ("panoptic", segments)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def run_lengths(mask):
    """Uncompressed COCO RLE: lengths of runs down the columns, beginning with zeros."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    edges = np.concatenate([[0], edges, [mask.size]] if not mask.T.reshape(-1)[-1] else [[0], edges])
    return np.diff(edges).tolist()


def every_kind(coco):
    return f"fh,instances:{coco}/instances.json,panoptic:{coco}/panoptic.json,sam:{coco}/masks,label_maps:{coco}/labels"


@pytest.fixture(scope="module")
def dataset(coco, tmp_path_factory):
    output = tmp_path_factory.mktemp("dataset") / "out"
    jobs.prepare(coco / "images", output, regions=every_kind(coco), scales=(60,), shards=2, workers=1)
    return output


def layers_of(source, number):
    """The label maps of one record by the name of their layer."""
    record = source[number]
    names = [layer["name"] for layer in source.metadata["layers"]]
    found = {name: [] for name in names}
    for layer, maps, count in zip(record.region_layers, record.regions, record.num_regions, strict=True):
        assert sorted(set(np.unique(maps)) - {0}) == list(range(1, count + 1))
        found[names[layer]].append(maps)
    return found


def regions_of(maps):
    """Every region of these maps as a binary mask, in a form that can be sorted and compared."""
    return sorted((one == label).tobytes() for one in maps for label in np.unique(one) if label)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_all_kinds_of_regions_lie_side_by_side(coco, dataset):
    source, reference = TFRecordSource(dataset), COCO(coco / "instances.json")
    assert [layer["name"] for layer in source.metadata["layers"]] == EVERYTHING
    num_maps = set()
    for number in range(6):
        found = layers_of(source, number)
        assert len(found["fh_60"]) == 1 and found["fh_60"][0].all()
        shown = [reference.annToMask(a) for a in reference.loadAnns(reference.getAnnIds(100 + number))]
        assert regions_of(found["instances"]) == sorted((mask == 1).tobytes() for mask in shown)
        ids = np.asarray(Image.open(coco / "panoptic" / f"{number}.png")).astype(int) @ (1, 256, 0)
        assert regions_of(found["panoptic"]) == sorted((ids == i).tobytes() for i in np.unique(ids)[:2])
        masks = json.loads((coco / "masks" / f"{number}.json").read_text())["annotations"]
        rles = [mask["segmentation"] | {"counts": mask["segmentation"]["counts"].encode()} for mask in masks]
        assert regions_of(found["sam"]) == sorted((coco_mask.decode(rle) == 1).tobytes() for rle in rles)
        labels = np.load(coco / "labels" / f"{number}.npy")
        assert regions_of(found["label_maps"]) == ([(labels == 7).tobytes()] if labels.any() else [])
        num_maps.add(len(source[number].region_layers))
    assert len(num_maps) > 1  # overlaps need more maps in one image than in another


@pytest.mark.parametrize("layer", EVERYTHING)
def test_training_draws_from_the_layers_that_it_names(dataset, layer):
    source = TFRecordSource(dataset, region_layers=(layer,))
    batch = center_examples(source, range(6), image_size=64, num_regions=8)
    everything = TFRecordSource(dataset)
    for number in range(6):
        maps = np.stack([*layers_of(everything, number)[layer], np.zeros(source[number].regions.shape[1:], np.uint16)])
        drawn = batch["regions"][number]
        assert bool(drawn.any()) == bool(maps.any())
    for number in range(6):  # none of an image's regions may be in the crop
        example = RandomExamples(source, 32, 8)(number, np.random.default_rng(number))
        assert example["regions"].shape == (32, 32)


def test_tfds_reads_the_dataset_without_tensorflow(dataset):
    """Its own features, its own decoder, on the frames of the shards."""
    code = f"""
import glob, struct, sys
import numpy as np
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(dataset)!r})
assert builder.info.splits["train"].num_examples == 6
for path in builder.info.splits["train"].filepaths:
    content, at = open(path, "rb").read(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        example = builder.info.features.deserialize_example_np(content[at + 12 : at + 12 + length])
        at += length + 16
        print(example["image_id"].decode(), example["image"].shape, example["regions"].dtype, example["regions"].shape,
              int(example["regions"].astype(int).sum()), example["num_regions"].tolist(),
              example["region_layers"].tolist(), example["label"])
assert "tensorflow" not in sys.modules
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    source = TFRecordSource(dataset)
    expected = []
    for number in range(6):
        record = source[number]
        expected.append(
            f"{record.image_id} {(record.height, record.width, 3)} uint16 {record.regions.shape} "
            f"{int(record.regions.astype(int).sum())} {list(record.num_regions)} {list(record.region_layers)} -1"
        )
    assert printed.splitlines() == expected


def records_of(folder, split="train"):
    source = TFRecordSource(folder, split)
    return [source[number] for number in range(len(source))]


def test_a_coco_annotation_file_chooses_the_images(coco, tmp_path):
    listed = json.loads((coco / "instances.json").read_text())
    listed["images"] = [image for image in reversed(listed["images"]) if image["id"] != 103]
    listed["images"].append({"id": 7, "file_name": "gone.jpg", "height": 9, "width": 9})
    (tmp_path / "some.json").write_text(json.dumps(listed))
    metadata = jobs.prepare(
        coco / "images",
        tmp_path / "out",
        annotations=tmp_path / "some.json",
        regions="instances",
        workers=1,
        max_bad=0.5,
    )
    assert metadata["images"] == "coco" and metadata["num_skipped"] == 1
    assert [record.image_id for record in records_of(tmp_path / "out")] == ["0.jpg", "1.jpg", "2.jpg", "4.jpg", "5.jpg"]
    skipped = json.loads((tmp_path / "out" / "regions-train.skipped.jsonl").read_text())
    assert skipped == {"image_id": "gone.jpg", "reason": "cannot be read: No such file or directory"}


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg"])
def test_a_list_that_leads_out_of_the_folder_is_refused(coco, tmp_path, name):
    (tmp_path / "list.json").write_text(json.dumps({"images": [{"id": 1, "file_name": name}]}))
    with pytest.raises(jobs.PrepError, match="is not below the image folder"):
        jobs.prepare(coco / "images", tmp_path / "out", annotations=tmp_path / "list.json", regions="none")


@pytest.fixture
def classes(coco, tmp_path):
    """Class folders, one empty and one of two levels."""
    root = tmp_path / "classes"
    for name, number in (("n02", 0), ("n01", 1), ("n10/deep", 2), ("n10", 3)):
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(coco / "images" / f"{number}.jpg", root / name)
    (root / "n03").mkdir()
    return root


def test_class_folders_give_labels(classes, tmp_path):
    metadata = jobs.prepare(classes, tmp_path / "out", classes=True, regions="none", workers=1)
    assert metadata["classes"] == ["n01", "n02", "n03", "n10"]
    found = {record.image_id: record.label for record in records_of(tmp_path / "out")}
    assert found == {"n01/1.jpg": 0, "n02/0.jpg": 1, "n10/3.jpg": 3, "n10/deep/2.jpg": 3}
    shutil.rmtree(classes / "n03")
    with pytest.raises(jobs.PrepError, match="not those of split 'train' .* each missing class: n03 .1 in all"):
        jobs.prepare(classes, tmp_path / "out", split="validation", classes=True, regions="none", workers=1)


def test_images_outside_of_class_folders_are_refused(coco, classes, tmp_path):
    shutil.copy2(coco / "images" / "4.jpg", classes)
    with pytest.raises(
        jobs.PrepError, match=r"classes/4.jpg is not in a class folder; move it into one, or omit --classes"
    ):
        jobs.prepare(classes, tmp_path / "out", classes=True, regions="none")


def test_the_dataset_is_itself_a_source(classes, tmp_path):
    """Regions are put beside the images of a TFDS dataset, here of one without regions; ids and labels are kept."""
    jobs.prepare(classes, tmp_path / "plain", classes=True, regions="none", shards=3, workers=1)
    jobs.prepare(None, tmp_path / "again", tfds=f"{tmp_path / 'plain'}:train", scales=(60,), shards=2, workers=2)
    jobs.prepare(classes, tmp_path / "direct", classes=True, scales=(60,), shards=2, workers=1)
    assert [r.image_id for r in records_of(tmp_path / "plain")] == [r.image_id for r in records_of(tmp_path / "again")]
    assert records_of(tmp_path / "again") == records_of(tmp_path / "direct")


def test_tar_shards_with_sam_masks_inside(coco, dataset, tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"part-{shard:03d}.tar", "w") as tar:
            for number in range(3 * shard, 3 * shard + 3):
                tar.add(coco / "images" / f"{number}.jpg", f"{number}.jpg")
                tar.add(coco / "masks" / f"{number}.json", f"{number}.json")
    pattern = str(tmp_path / "part-{000..001}.tar")
    jobs.prepare(None, tmp_path / "out", webdataset=pattern, regions="sam", shards=4, workers=2)
    sam = EVERYTHING.index("sam")
    for record, other in zip(records_of(tmp_path / "out"), records_of(dataset), strict=True):
        chosen = np.equal(other.region_layers, sam)
        assert record.image == other.image and record.image_id == other.image_id
        np.testing.assert_array_equal(record.regions, other.regions[chosen])
        assert record.region_layers == (0,) * int(chosen.sum())


def test_images_without_masks_are_skipped_and_named(coco, tmp_path):
    masks = shutil.copytree(coco / "masks", tmp_path / "masks")
    (masks / "3.json").unlink()
    (masks / "4.json").write_text((masks / "0.json").read_text().replace('"height"', '"depth"'))
    jobs.prepare(coco / "images", tmp_path / "out", regions=f"sam:{masks}", workers=1, max_bad=0.5)
    lines = (tmp_path / "out" / "regions-train.skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_id"] for line in lines] == ["3.jpg", "4.jpg"]


def test_a_changed_annotation_file_is_named(coco, tmp_path):
    masks = shutil.copytree(coco / "masks", tmp_path / "masks")
    options = {"regions": f"sam:{masks}", "workers": 1}
    jobs.prepare(coco / "images", tmp_path / "out", **options)
    (masks / "3.json").write_text((masks / "2.json").read_text())
    with pytest.raises(jobs.PrepError, match=r"sam:3.json (had|was modified)"):
        jobs.prepare(coco / "images", tmp_path / "out", **options)
    with pytest.raises(jobs.PrepError, match="layers sam, now fh_60"):
        jobs.prepare(coco / "images", tmp_path / "out", scales=(60,))


def test_a_folder_cannot_be_both_images_and_label_maps(coco, tmp_path):
    with pytest.raises(jobs.PrepError, match="lies in the image folder; move it, or its maps would be read as images"):
        jobs.prepare(coco / "images", tmp_path / "out", regions=f"label_maps:{coco / 'images'}")

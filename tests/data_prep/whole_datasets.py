"""Whole small datasets, complete with all the files beside the shards, written with the record schema alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from data_prep.dataset import records, tfrecord
from data_prep.dataset.split import Split


def make_record(number: int, layers: Sequence[int] = (0, 1, 1), height: int = 40, width: int = 56, **changes):
    """A noisy photograph with one label map for each of `layers`; map s has blocks of 8 + 4 s pixels, unlabelled gaps.

    Args:
      changes: fields of the record that are to be other, such as `num_regions`.
    """
    image = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    maps = np.zeros((len(layers), height, width), np.uint16)
    for s, one in enumerate(maps):
        side = 8 + 4 * s
        rows, columns = -(-height // side), -(-width // side)
        y, x = np.mgrid[:height, :width] // side
        one[:] = 1 + y * columns + x
        one[one == rows * columns] = 0  # the last block is no region
    fields = {
        "image": simplejpeg.encode_jpeg(image, quality=95),
        "image_id": f"folder/{number}.jpg",
        "height": height,
        "width": width,
        "region_layers": tuple(layers),
        "packed_regions": records.pack_regions(maps),
        "num_regions": tuple(int(one.max()) for one in maps),
    }
    return records.Record(**fields | changes)


def write(
    folder: Path,
    shards: Sequence[Sequence[records.Record]],
    layers: Sequence[str] = ("coarse", "fine"),
    name: str = "toy",
    split: str = "train",
    classes: Sequence[str] = (),
    skipped: Sequence[tuple[str, str]] = (),
) -> Path:
    """Writes one split and adds it to the TFDS files; `skipped` has image_id and reason of images left out."""
    folder.mkdir(parents=True, exist_ok=True)
    index, num_regions = [], [0] * len(layers)
    for number, shard in enumerate(shards):
        with (Split(folder, name, split).shard_path(number, len(shards))).open("wb") as file:
            for record in shard:
                data = records.encode(record)
                index.append((number, file.tell(), len(data)))
                file.write(tfrecord.frame(data))
                for layer, count in zip(record.region_layers, record.num_regions, strict=False):
                    if 0 <= layer < len(layers):
                        num_regions[layer] += count
    np.save(Split(folder, name, split).index_path, np.array(index, np.int64).reshape(-1, 3))
    with (Split(folder, name, split).skipped_path).open("w") as file:
        file.writelines(json.dumps({"image_id": one, "reason": reason}) + "\n" for one, reason in skipped)
    (Split(folder, name, split).inputs_path).write_text('["folder/0.jpg", 1234, 1700000000000000000]\n')
    metadata = {
        "name": name,
        "split": split,
        "layers": [{"name": layer, "method": "blocks"} for layer in layers],
        "classes": list(classes),
        "num_images": len(index) + len(skipped),
        "inputs_sha256": "0" * 64,
        "shard_lengths": [len(shard) for shard in shards],
        "num_examples": len(index),
        "num_skipped": len(skipped),
        "num_bytes": sum(length + 16 for _, _, length in index),
        "num_regions": num_regions,
    }
    (Split(folder, name, split).metadata_path).write_text(json.dumps(metadata))
    _write_tfds(folder, metadata)
    return folder


def _write_tfds(folder: Path, metadata: dict) -> None:
    features = {"image", "image_id", "height", "width", "regions", "num_regions", "region_layers", "label"}
    (folder / "features.json").write_text(
        json.dumps({"featuresDict": {"features": {key: {} for key in sorted(features)}}})
    )
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text()) if path.exists() else {"name": metadata["name"], "splits": []}
    lengths = [str(length) for length in metadata["shard_lengths"]]
    info["splits"].append({"name": metadata["split"], "shardLengths": lengths})
    path.write_text(json.dumps(info))

"""Small datasets of synthetic photographs, written with the record schema alone."""

import itertools
import json
from pathlib import Path

import numpy as np
import simplejpeg

from data_prep.dataset import records, tfrecord
from data_prep.dataset.split import Split
from rmae_jax.data import TFRecordSource, batches


def make_record(number: int, height: int = 40, width: int = 56, num_layers: int = 3) -> records.Record:
    """A noisy photograph with blocks as regions; layer l has blocks of 8 * (l + 1) pixels."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    layers = [1 + y // (8 * (s + 1)) * 100 + x // (8 * (s + 1)) for s in range(num_layers)]
    layers = np.array(layers, np.uint16).reshape(num_layers, height, width)
    return records.Record(
        image=simplejpeg.encode_jpeg(image, quality=95),
        image_id=f"folder/{number}.jpg",
        height=height,
        width=width,
        region_layers=tuple(range(num_layers)),
        packed_regions=records.pack_regions(layers),
        num_regions=tuple(len(np.unique(layer)) for layer in layers),
    )


def write_dataset(folder: Path, shards: list[list[records.Record]], name: str = "toy", split: str = "train") -> Path:
    """Writes shards, index and metadata of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for number, shard in enumerate(shards):
        with open(Split(folder, name, split).shard_path(number, len(shards)), "wb") as file:
            for record in shard:
                data = records.encode(record)
                index.append((number, file.tell(), len(data)))
                file.write(tfrecord.frame(data))
    np.save(Split(folder, name, split).index_path, np.array(index, np.int64).reshape(-1, 3))
    num_layers = max((len(record.region_layers) for shard in shards for record in shard), default=0)
    metadata = {
        "name": name,
        "split": split,
        "layers": [{"name": f"blocks_{s}"} for s in range(num_layers)],
        "shard_lengths": [len(shard) for shard in shards],
        "num_examples": len(index),
    }
    (Split(folder, name, split).metadata_path).write_text(json.dumps(metadata))
    return folder


def first_batches(source: TFRecordSource, count: int, **arguments) -> list[dict[str, np.ndarray]]:
    """The first batches of a stream."""
    stream = batches(source, **arguments)
    found = list(itertools.islice(stream, count))
    stream.close()
    return found


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """Equal batches, to the last bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])

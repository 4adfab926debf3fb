"""Labelled examples: images with a class, or with the class of each pixel."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
from jaxtyping import UInt8, UInt16

from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import random_resized_crop
from rmae_jax.data.examples import Example, center_view, check_records, unpack
from rmae_jax.data.nearest import resize_nearest
from rmae_jax.data.record_cache import RecordCache
from rmae_jax.data.tfrecord_source import DatasetError, TFRecordSource

BATCHES_AHEAD = 4  # batches read ahead


class LabelledExamples:
    """Augmented examples with labels: random resized crop and flip.

    Args:
      source: the source of the records; with `dense`, one that `semantic_source` returned.
      image_size: S, in pixels.
      dense: whether labels are the class of each pixel instead of the image's class.

    Raises:
      DatasetError: there are no records.
    """

    def __init__(self, source: TFRecordSource, image_size: int, dense: bool = False):
        check_records(source)
        self.source, self.image_size = source, image_size
        self._read = RecordCache(partial(_read, source, dense=dense), len(source))

    def __call__(self, record: int, rng: np.random.Generator) -> Example:
        """Returns the example of one record, see `labelled_examples`, with all random choices drawn from `rng`.

        Raises:
          DatasetError: the record is corrupt or has no label.
        """
        image, layers, label = self._read(record)
        crop, size = random_resized_crop(rng, *image.shape[:2]), self.image_size
        maps = None if layers is None else resize_nearest(layers, crop, size, size)
        return _example(record, resize_bicubic(image, crop, size, size), maps, label)


def labelled_examples(
    source: TFRecordSource, records: Sequence[int], *, image_size: int, dense: bool = False
) -> Example:
    """Returns a batch of chosen records without augmentation: short side resized to `image_size`, centre crop.

    Returns:
      images: uint8 (B, S, S, 3), RGB.
      record: int64 (B), the records' numbers in the split.
      label: int64 (B), the class of each image; without `dense` only.
      classes: uint16 (B, S, S), 1 + the class of each pixel, 0 where it is unknown; with `dense` only.

    Raises:
      DatasetError: a record is corrupt or has no label.
    """
    examples = []
    for record in records:
        image, layers, label = _read(source, record, dense)
        examples.append(_example(record, *center_view(image, layers, image_size), label))
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def labelled_batches(
    source: TFRecordSource, *, image_size: int, batch_size: int, dense: bool = False
) -> Iterator[Example]:
    """Yields batches of `labelled_examples` of all records of a split, in order; threads read ahead.

    The last batch may be smaller.

    Raises:
      DatasetError: a record is corrupt or has no label, or there are no records.
    """
    check_records(source)
    starts = iter(range(0, len(source), batch_size))

    def batch(first: int) -> Example:
        records = range(first, min(first + batch_size, len(source)))
        return labelled_examples(source, records, image_size=image_size, dense=dense)

    with ThreadPoolExecutor(BATCHES_AHEAD) as threads:
        ahead = deque(threads.submit(batch, first) for first in islice(starts, BATCHES_AHEAD))
        try:
            while ahead:
                examples = ahead.popleft().result()
                ahead.extend(threads.submit(batch, first) for first in islice(starts, 1))
                yield examples
        finally:
            threads.shutdown(cancel_futures=True)


def semantic_source(source: TFRecordSource) -> TFRecordSource:
    """Returns a source of the same records with one label-map layer, that of the pixels' classes.

    Raises:
      DatasetError: the dataset has no such layer.
    """
    layers = [layer["name"] for layer in source.metadata["layers"] if layer.get("method") == "semantic"]
    if not layers:
        raise DatasetError(
            f"{source.folder}: split {source.split!r} has no pixel classes; prepare it with --regions=semantic:FOLDER"
        )
    return TFRecordSource(source.folder, source.split, layers[:1])


def _read(
    source: TFRecordSource, record: int, dense: bool
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt16[np.ndarray, "maps height width"] | None, int]:
    """Reads a record's image, its label maps if `dense`, and its class, which must be known if not `dense`."""
    packed = source[record]
    image, layers = unpack(source, record, packed, dense)
    if not dense and packed.label < 0:
        raise DatasetError(
            f"{source.where(record)}: no class is stored; prepare the dataset from class folders with --classes"
        )
    return image, layers, packed.label


def _example(
    record: int,
    image: UInt8[np.ndarray, "size size 3"],
    maps: UInt16[np.ndarray, "maps size size"] | None,
    label: int,
) -> Example:
    example = {"images": image, "record": np.int64(record)}
    return example | ({"label": np.int64(label)} if maps is None else {"classes": maps[0]})

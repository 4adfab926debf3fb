"""Training examples from records: uint8 pixels and a bitmask of sampled regions."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep.dataset import records
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import random_resized_crop, whole_image
from rmae_jax.data.nearest import resize_nearest
from rmae_jax.data.record_cache import CACHE_BYTES, RecordCache
from rmae_jax.data.region_filter import RegionFilter
from rmae_jax.data.region_sampling import bitmask_dtype, sample_regions
from rmae_jax.data.tfrecord_source import DatasetError, RecordError, TFRecordSource

Example = dict[str, np.ndarray]


@runtime_checkable
class Examples(Protocol):
    """A function from a record's number and a random generator to an example.

    Attributes:
      source: the source of the records.
    """

    source: TFRecordSource

    def __call__(self, record: int, rng: np.random.Generator) -> Example:
        """Returns the example of one record; all random choices come from `rng`. Raises as `RandomExamples` does."""


class RandomExamples:
    """Augmented training examples: random resized crop, flip, K random regions (R-MAE, section 3).

    The records of a small dataset are decoded only once, see `rmae_jax.data.record_cache`.
    """

    def __init__(
        self,
        source: TFRecordSource,
        image_size: int,
        num_regions: int,
        region_filter: RegionFilter | None = None,
        cache_bytes: int = CACHE_BYTES,
    ):
        """Checks the arguments, for which see `rmae_jax.data.batches`; `cache_bytes` is the limit of `RecordCache`.

        Raises:
          DatasetError: regions are requested and the dataset has none.
          ValueError: the size or the number of regions is out of range, or the filter does not fit the size.
        """
        _check_request(source, image_size, num_regions)
        if region_filter is not None:
            region_filter.check(image_size)
        self.source, self.image_size, self.num_regions = source, image_size, num_regions
        self.region_filter = region_filter
        self._decode = RecordCache(partial(decode, source, with_regions=num_regions > 0), len(source), cache_bytes)

    def __call__(self, record: int, rng: np.random.Generator) -> Example:
        """Returns the example of one record, with all random choices drawn from `rng`.

        Raises:
          RecordError: the record is corrupt.
          DatasetError: its shard cannot be read.
        """
        image, layers = self._decode(record)
        crop = random_resized_crop(rng, *image.shape[:2])
        size = self.image_size
        example = {"images": resize_bicubic(image, crop, size, size), "record": np.int64(record)}
        if layers is None:
            return example
        layers, allowed = resize_nearest(layers, crop, size, size), None
        if self.region_filter is not None:
            permutation = self.region_filter.draw_permutation(rng, size)
            allowed = self.region_filter.allowed(layers, permutation)
            if permutation is not None:
                example["permutation"] = permutation
        example["regions"] = sample_regions(rng, layers, self.num_regions, allowed)
        return example


def center_examples(
    source: TFRecordSource,
    indices: Sequence[int],
    *,
    image_size: int,
    num_regions: int = 0,
    seed: int = 0,
    on_error: str = "error",
) -> Example:
    """Returns a batch of chosen records without augmentation: short side resized to `image_size`, centre crop.

    The same record and seed give the same regions, whatever the other records are. With `on_error` "skip", corrupt
    records are skipped, unless all of them are corrupt.

    Returns:
      A batch as `rmae_jax.data.batches` yields it.

    Raises:
      DatasetError: a record cannot be read or decoded, or regions are requested and the dataset has none.
    """
    _check_request(source, image_size, num_regions)
    examples, damaged = [], None
    for index in indices:
        try:
            examples.append(_center_example(source, int(index), image_size, num_regions, seed))
        except RecordError as error:
            if on_error == "error":
                raise
            damaged = error
    if damaged is not None and not examples:
        raise DatasetError(f"{damaged}; all requested records are corrupt") from damaged
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _center_example(source: TFRecordSource, record: int, size: int, num_regions: int, seed: int) -> Example:
    image, layers = center_view(*decode(source, record, num_regions > 0), size)
    example = {"images": image, "record": np.int64(record)}
    if layers is not None:
        example["regions"] = sample_regions(np.random.default_rng((seed, record)), layers, num_regions)
    return example


def center_view(
    image: UInt8[np.ndarray, "height width 3"], layers: UInt16[np.ndarray, "layers height width"] | None, size: int
) -> tuple[UInt8[np.ndarray, "{size} {size} 3"], UInt16[np.ndarray, "layers {size} {size}"] | None]:
    """Resizes the short side of an image and its label maps to `size`; returns their centre crops."""
    height, width = image.shape[:2]
    crop, short = whole_image(height, width), min(height, width)
    height, width = size * height // short, size * width // short
    top, left = (height - size) // 2, (width - size) // 2
    center = (slice(top, top + size), slice(left, left + size))
    if layers is not None:
        layers = resize_nearest(layers, crop, height, width)[:, *center]
    return resize_bicubic(image, crop, height, width)[center], layers


def decode(
    source: TFRecordSource, record: int, with_regions: bool
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt16[np.ndarray, "layers height width"] | None]:
    """Reads and decodes a record; its label maps are unpacked only if `with_regions`.

    Raises:
      RecordError: the record is corrupt.
      DatasetError: its shard cannot be read.
    """
    return unpack(source, record, source[record], with_regions)


def unpack(
    source: TFRecordSource, record: int, packed: records.Record, with_regions: bool
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt16[np.ndarray, "layers height width"] | None]:
    """Decodes a record that was already read, see `decode`.

    Raises:
      RecordError: the record is corrupt.
    """
    try:
        image = records.decode_image(packed.image)
        if image.shape[:2] != (packed.height, packed.width):
            raise ValueError(f"the image is {image.shape[:2]}, but its record says {(packed.height, packed.width)}")
        if not with_regions:
            return image, None
        if max(packed.region_layers, default=0) >= source.num_layers:
            raise ValueError(
                f"region layer {max(packed.region_layers)}, but the dataset has {source.num_layers} layers"
            )
        chosen = [layer in source.layer_ids for layer in packed.region_layers]
        return image, packed.regions if all(chosen) else packed.regions[chosen]
    except ValueError as error:
        raise RecordError(f"{source.where(record)}, image {packed.image_id}: {error}") from error


def check_records(source: TFRecordSource) -> None:
    """Checks that a dataset has records.

    Raises:
      DatasetError: it has none.
    """
    if len(source) == 0:
        raise DatasetError(f"{source.folder}: split {source.split!r} has no records; run data_prep on images")


def _check_request(source: TFRecordSource, image_size: int, num_regions: int) -> None:
    check_records(source)
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; it must be positive")
    if num_regions == 0:
        return
    bitmask_dtype(num_regions)
    if source.num_layers == 0:
        raise DatasetError(
            f"{source.folder}: the dataset has no region maps; prepare it with --regions=fh, or use objective mae"
        )

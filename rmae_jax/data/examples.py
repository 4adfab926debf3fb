"""From a record to what the model is fed: uint8 pixels and a bitmask of sampled regions."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt16

from data_prep.dataset import records
from rmae_jax.data.bicubic import resize_bicubic
from rmae_jax.data.crops import random_resized_crop, whole
from rmae_jax.data.nearest import resize_nearest
from rmae_jax.data.record_cache import CACHE_BYTES, RecordCache
from rmae_jax.data.region_filter import RegionFilter
from rmae_jax.data.region_sampling import bitmask_dtype, sample_regions
from rmae_jax.data.tfrecord_source import DatasetError, RecordError, TFRecordSource

Example = dict[str, np.ndarray]


@runtime_checkable
class Examples(Protocol):
    """What makes an example of a record; every random choice comes from the generator that it is handed.

    Attributes:
      source: of the records.
    """

    source: TFRecordSource

    def __call__(self, record: int, rng: np.random.Generator) -> Example:
        """Makes the example of one record; raises as `RandomExamples` does."""


class RandomExamples:
    """Makes augmented training examples: random resized crop, flip, K random regions (R-MAE, section 3).

    The records of a small dataset are decoded once, see `rmae_jax.data.record_cache`.
    """

    def __init__(
        self,
        source: TFRecordSource,
        image_size: int,
        num_regions: int,
        region_filter: RegionFilter | None = None,
        cache_bytes: int = CACHE_BYTES,
    ):
        """See `rmae_jax.data.batches` for the arguments, and `RecordCache` for the last.

        Raises:
          DatasetError: regions are asked for and the dataset has none.
          ValueError: the size or the number of regions is out of range, or the filter does not fit the size.
        """
        _check_request(source, image_size, num_regions)
        if region_filter is not None:
            region_filter.check(image_size)
        self.source, self.image_size, self.num_regions = source, image_size, num_regions
        self.region_filter = region_filter
        self._decode = RecordCache(partial(decode, source, with_regions=num_regions > 0), len(source), cache_bytes)

    def __call__(self, record: int, rng: np.random.Generator) -> Example:
        """Makes the example of one record; every random choice comes from `rng`.

        Raises:
          RecordError: the record is damaged.
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
    """Makes a batch of chosen records without augmentation: short side resized to `image_size`, centre crop.

    The same record and seed give the same regions, whichever records stand beside it. With `on_error` "skip", damaged
    records are left out, as long as one is left.

    Returns:
      What `rmae_jax.data.batches` yields.

    Raises:
      DatasetError: a record cannot be read or decoded, or regions are asked for and the dataset has none.
    """
    _check_request(source, image_size, num_regions)
    made, damaged = [], None
    for index in indices:
        try:
            made.append(_center_example(source, int(index), image_size, num_regions, seed))
        except RecordError as error:
            if on_error == "error":
                raise
            damaged = error
    if damaged is not None and not made:
        raise DatasetError(f"{damaged}; none of the records asked for is undamaged") from damaged
    return {key: np.stack([example[key] for example in made]) for key in made[0]}


def _center_example(source: TFRecordSource, record: int, size: int, num_regions: int, seed: int) -> Example:
    image, layers = center_view(*decode(source, record, num_regions > 0), size)
    example = {"images": image, "record": np.int64(record)}
    if layers is not None:
        example["regions"] = sample_regions(np.random.default_rng((seed, record)), layers, num_regions)
    return example


def center_view(
    image: UInt8[np.ndarray, "height width 3"], layers: UInt16[np.ndarray, "layers height width"] | None, size: int
) -> tuple[UInt8[np.ndarray, "{size} {size} 3"], UInt16[np.ndarray, "layers {size} {size}"] | None]:
    """The middle of a photograph and of its label maps, the short side resized to `size`."""
    height, width = image.shape[:2]
    crop, short = whole(height, width), min(height, width)
    height, width = size * height // short, size * width // short
    top, left = (height - size) // 2, (width - size) // 2
    center = (slice(top, top + size), slice(left, left + size))
    if layers is not None:
        layers = resize_nearest(layers, crop, height, width)[:, *center]
    return resize_bicubic(image, crop, height, width)[center], layers


def decode(
    source: TFRecordSource, record: int, with_regions: bool
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt16[np.ndarray, "layers height width"] | None]:
    """Reads and decodes a record; its label maps stay packed where nobody wants them.

    Raises:
      RecordError: the record is damaged.
      DatasetError: its shard cannot be read.
    """
    return unpack(source, record, source[record], with_regions)


def unpack(
    source: TFRecordSource, record: int, packed: records.Record, with_regions: bool
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt16[np.ndarray, "layers height width"] | None]:
    """Decodes a record that was read, see `decode`.

    Raises:
      RecordError: the record is damaged.
    """
    try:
        image = records.decode_image(packed.image)
        if image.shape[:2] != (packed.height, packed.width):
            raise ValueError(f"the image is {image.shape[:2]}, its record says {(packed.height, packed.width)}")
        if not with_regions:
            return image, None
        if max(packed.region_layers, default=0) >= source.num_layers:
            raise ValueError(f"region layer {max(packed.region_layers)}, the dataset has {source.num_layers} layers")
        chosen = [layer in source.layer_ids for layer in packed.region_layers]
        return image, packed.regions if all(chosen) else packed.regions[chosen]
    except ValueError as error:
        raise RecordError(f"{source.where(record)}, image {packed.image_id}: {error}") from error


def check_records(source: TFRecordSource) -> None:
    """Refuses a dataset without records.

    Raises:
      DatasetError: says so.
    """
    if len(source) == 0:
        raise DatasetError(f"{source.folder}: split {source.split!r} has no records; run data_prep on photographs")


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

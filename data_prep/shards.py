"""One shard of a dataset: a work item that any process can do alone, always with the same bytes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep import felzenszwalb, files, images
from rmae_jax import records, tfrecord


@dataclasses.dataclass(frozen=True)
class Shard:
    """What to read and where to write.

    Attributes:
      images: the image folder.
      image_ids: the shard's images, paths below the folder.
      path: the finished shard.
      scratch: folder for temporary files and the report, on the file system of `path`.
      scales: one Felzenszwalb-Huttenlocher layer for each; none for a dataset without regions.
      max_pixels: larger images are left out.
    """

    images: Path
    image_ids: tuple[str, ...]
    path: Path
    scratch: Path
    scales: tuple[int, ...]
    max_pixels: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What a finished shard holds.

    Attributes:
      offsets: of each frame in the file, in bytes.
      lengths: of each record's data, in bytes.
      num_regions: sum over the records, for each layer.
      skipped: image_id and reason of each image left out.
    """

    offsets: list[int]
    lengths: list[int]
    num_regions: list[int]
    skipped: list[dict[str, str]]

    @property
    def num_bytes(self) -> int:
        """Size of the shard's file."""
        return sum(self.lengths) + len(self.lengths) * (tfrecord.HEADER_BYTES + tfrecord.FOOTER_BYTES)


def write(shard: Shard, advance: Callable[[], None] = lambda: None) -> Report:
    """Writes a shard and, before the shard takes its name, its report: a shard with its final name is complete.

    Args:
      shard: the work item.
      advance: called after each image.

    Raises:
      OSError: the shard cannot be written. Images that cannot be read are skipped and reported.
    """
    report = Report([], [], [0] * len(shard.scales), [])
    with files.replacing(shard.path, shard.scratch) as out:
        for image_id in shard.image_ids:
            try:
                record = make_record(shard, image_id)
            except images.BadImage as error:
                report.skipped.append({"image_id": image_id, "reason": str(error)})
            else:
                data = records.encode(record)
                report.offsets.append(out.tell())
                report.lengths.append(len(data))
                out.write(tfrecord.frame(data))
                for layer, count in enumerate(record.num_regions):
                    report.num_regions[layer] += count
            advance()
        with files.replacing(_report_path(shard), shard.scratch) as report_out:
            report_out.write(json.dumps(dataclasses.asdict(report)).encode())
    return report


def finished(shard: Shard) -> Report | None:
    """The report of a shard that an earlier run has finished, None if it has to be written."""
    try:
        report = Report(**json.loads(_report_path(shard).read_bytes()))
        return report if shard.path.stat().st_size == report.num_bytes else None
    except FileNotFoundError:
        return None


def make_record(shard: Shard, image_id: str) -> records.Record:
    """Reads one image and finds its regions on the pixels that training will decode.

    Raises:
      BadImage: the file cannot be read, is no usable image, or has more regions than a label map holds.
    """
    try:
        image_id.encode()
    except UnicodeEncodeError as error:
        raise images.BadImage("the file's name is not UTF-8") from error
    try:
        data = (shard.images / image_id).read_bytes()
    except OSError as error:
        raise images.BadImage(f"cannot be read: {error.strerror}") from error
    jpeg, pixels = images.load(data, shard.max_pixels)
    try:
        layers = felzenszwalb.layers(pixels, shard.scales)
    except ValueError as error:
        raise images.BadImage(str(error)) from error
    return records.Record(
        image=jpeg,
        image_id=image_id,
        height=pixels.shape[0],
        width=pixels.shape[1],
        region_layers=tuple(range(len(layers))),
        packed_regions=records.pack_regions(layers),
        num_regions=tuple(int(np.max(layer)) for layer in layers),
    )


def _report_path(shard: Shard) -> Path:
    return shard.scratch / f"{shard.path.name}.json"

"""One shard of a dataset: a work item that any process can do alone, always with the same bytes."""

import dataclasses
import json
from collections.abc import Callable, Iterator

import numpy as np

from data_prep import images
from data_prep.dataset import records, tfrecord
from data_prep.regions.region_source import MapMaker
from data_prep.sources.source import Item, Slice
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class Shard:
    """What to read and where to write.

    Attributes:
      images: the shard's images.
      regions: make the label maps of each image.
      num_layers: named layers of all makers together.
      path: the finished shard.
      scratch: folder for temporary files and the report, on the file system of `path`.
      max_pixels: larger images are left out.
    """

    images: Slice
    regions: tuple[MapMaker, ...]
    num_layers: int
    path: AnyPath
    scratch: AnyPath
    max_pixels: int

    @property
    def report_path(self) -> AnyPath:
        """Where the shard's report is written, before the shard takes its name."""
        return self.scratch / f"{self.path.name}.json"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a finished shard holds.

    Attributes:
      offsets: of each frame in the file, in bytes.
      lengths: of each record's data, in bytes.
      num_regions: sum over the records, for each named layer.
      skipped: image_id and reason of each image left out.
    """

    offsets: list[int]
    lengths: list[int]
    num_regions: list[int]
    skipped: list[dict[str, str]]

    @property
    def num_bytes(self) -> int:
        """Size of the shard's file."""
        return sum(self.lengths) + len(self.lengths) * tfrecord.FRAMING_BYTES


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of a report, what is kept in memory while a job runs: the number of records, and the images left out."""

    num_examples: int
    skipped: list[dict[str, str]]


def write(shard: Shard, advance: Callable[[int], None]) -> Summary:
    """Writes a shard and, before the shard takes its name, its report: a shard with its final name is complete.

    Args:
      shard: the work item.
      advance: called after each image with the number of those done.

    Raises:
      OSError: the shard cannot be written, or a file of many images cannot be read on. Single images that cannot be
        read are skipped and reported.
    """
    report = Report([], [], [0] * shard.num_layers, [])
    with atomic_write(shard.path, shard.scratch) as out:
        for done, item in enumerate(shard.images, start=1):
            try:
                record = make_record(shard, item)
            except images.BadImage as error:
                report.skipped.append({"image_id": item.image_id, "reason": str(error)})
            else:
                data = records.encode(record)
                report.offsets.append(out.tell())
                report.lengths.append(len(data))
                out.write(tfrecord.frame(data))
                for layer, count in zip(record.region_layers, record.num_regions, strict=True):
                    report.num_regions[layer] += count
            advance(done)
        with atomic_write(shard.report_path, shard.scratch) as report_out:
            report_out.write(json.dumps(dataclasses.asdict(report)).encode())
    return _summary(report)


def finished(shard: Shard) -> Summary | None:
    """The summary of a shard that an earlier run has finished, None if it has to be written."""
    try:
        report = read_report(shard)
        return _summary(report) if shard.path.stat().st_size == report.num_bytes else None
    except (FileNotFoundError, ValueError, TypeError):  # not there, or damaged by what ended the machine
        return None


def read_report(shard: Shard) -> Report:
    """The report of a finished shard."""
    return Report(**json.loads(shard.report_path.read_bytes()))


def make_record(shard: Shard, item: Item) -> records.Record:
    """Reads one image and makes its regions on the pixels that training will decode.

    Raises:
      BadImage: the file cannot be read, is no usable image, or its regions cannot be made.
    """
    try:
        item.image_id.encode()
    except UnicodeEncodeError as error:
        raise images.BadImage("the file's name is not UTF-8") from error
    try:
        data = item.read()
    except OSError as error:
        raise images.BadImage(f"cannot be read: {error.strerror or error}") from error
    jpeg, pixels = images.load(data, shard.max_pixels)
    layers = [maps for make in shard.regions for maps in make(item, data, pixels)]
    maps = np.concatenate([np.empty((0, *pixels.shape[:2]), np.uint16), *layers])
    return records.Record(
        image=jpeg,
        image_id=item.image_id,
        height=pixels.shape[0],
        width=pixels.shape[1],
        region_layers=tuple(_repeat(len(maps) for maps in layers)),
        packed_regions=records.pack_regions(maps),
        num_regions=tuple(int(np.count_nonzero(np.bincount(one.reshape(-1))[1:])) for one in maps),
        label=item.label,
    )


def _repeat(counts: Iterator[int]) -> Iterator[int]:
    """The index of each count, that many times."""
    for index, count in enumerate(counts):
        yield from [index] * count


def _summary(report: Report) -> Summary:
    return Summary(len(report.offsets), report.skipped)

"""One shard of a dataset: a work item that any process can write on its own, always with the same bytes."""

import dataclasses
import json
from collections.abc import Callable, Iterator

import numpy as np

from data_prep import images
from data_prep.dataset import records, tfrecord
from data_prep.dataset.shard_report import Report
from data_prep.regions.region_source import MapMaker
from data_prep.sources.source import Item, Slice
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath


@dataclasses.dataclass(frozen=True)
class Shard:
    """A work item: the images to read and the shard to write.

    Attributes:
      images: the shard's images.
      regions: functions that compute the label maps of each image.
      num_layers: number of named layers of all these functions together.
      path: path of the finished shard.
      scratch: folder for temporary files and the report, on the file system of `path`.
      max_pixels: images with more pixels are skipped.
    """

    images: Slice
    regions: tuple[MapMaker, ...]
    num_layers: int
    path: AnyPath
    scratch: AnyPath
    max_pixels: int

    @property
    def report_path(self) -> AnyPath:
        """Path of the shard's report, which is written before the shard gets its final name."""
        return self.scratch / f"{self.path.name}.json"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The part of a report that stays in memory during a job: the number of records, and the skipped images."""

    num_examples: int
    skipped: list[dict[str, str]]


def write(shard: Shard, advance: Callable[[int], None]) -> Summary:
    """Writes a shard and its report.

    The report is written before the shard gets its final name, so a shard with its final name is complete.

    Args:
      shard: the work item.
      advance: called after each image with the number of finished images.

    Raises:
      OSError: the shard cannot be written, or a file of many images cannot be read further. Single images that cannot
        be read are skipped and reported.
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
    """Returns the summary of a shard that an earlier run finished; None if the shard has to be written."""
    try:
        report = read_report(shard)
        return _summary(report) if shard.path.stat().st_size == report.num_bytes else None
    except (FileNotFoundError, ValueError, TypeError):  # missing, or corrupted when the machine failed
        return None


def read_report(shard: Shard) -> Report:
    """Reads the report of a finished shard."""
    return Report(**json.loads(shard.report_path.read_bytes()))


def make_record(shard: Shard, item: Item) -> records.Record:
    """Reads one image and computes its regions on the pixels that training decodes.

    Raises:
      BadImage: the file cannot be read or is not a usable image, or its regions cannot be computed.
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
    """Yields the index of each count, that many times."""
    for index, count in enumerate(counts):
        yield from [index] * count


def _summary(report: Report) -> Summary:
    return Summary(len(report.offsets), report.skipped)

"""The report of a finished shard, from which a split's index and metadata are written."""

import dataclasses

from data_prep.dataset import tfrecord


@dataclasses.dataclass(frozen=True)
class Report:
    """The contents of a finished shard.

    Attributes:
      offsets: offset of each frame in the file, in bytes.
      lengths: length of each record's data, in bytes.
      num_regions: number of regions in each named layer, summed over the records.
      skipped: image_id and reason of each skipped image.
    """

    offsets: list[int]
    lengths: list[int]
    num_regions: list[int]
    skipped: list[dict[str, str]]

    @property
    def num_bytes(self) -> int:
        """Size of the shard's file, in bytes."""
        return sum(self.lengths) + len(self.lengths) * tfrecord.FRAMING_BYTES

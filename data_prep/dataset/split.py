"""The splits of a dataset's folder, and where the files of each are."""

import dataclasses
import re

from data_prep.errors import DatasetError
from data_prep.storage.paths import AnyPath

MAKE_DATASET = "make a dataset with `python -m data_prep --images=DIR --output=DATASET`"
_SPLIT_FILE = re.compile(
    r"(\w+)-(\w+)\.(?:json|index\.npy|skipped\.jsonl|inputs\.jsonl|tfrecord-.*)|\.(\w+)-(\w+)\.unfinished"
)


@dataclasses.dataclass(frozen=True, order=True)
class Split:
    """One split of a dataset: where its files are, see `data_prep.dataset`.

    Attributes:
      folder: of the dataset.
      name: of the dataset.
      split: of the dataset.
    """

    folder: AnyPath
    name: str
    split: str

    def __str__(self) -> str:
        return f"{self.name}-{self.split}"

    @property
    def metadata_path(self) -> AnyPath:
        """The metadata. Written last: a split that has metadata is finished."""
        return self.folder / f"{self}.json"

    @property
    def index_path(self) -> AnyPath:
        """The index of record offsets."""
        return self.folder / f"{self}.index.npy"

    @property
    def skipped_path(self) -> AnyPath:
        """The report of skipped images."""
        return self.folder / f"{self}.skipped.jsonl"

    @property
    def inputs_path(self) -> AnyPath:
        """The list of input files."""
        return self.folder / f"{self}.inputs.jsonl"

    @property
    def unfinished_path(self) -> AnyPath:
        """The scratch folder of a job that has not finished."""
        return self.folder / f".{self}.unfinished"

    def shard_files(self) -> list[AnyPath]:
        """The shards that exist, whatever their number."""
        return sorted(self.folder.glob(f"{self}.tfrecord-*"))

    def shard_path(self, shard: int, num_shards: int) -> AnyPath:
        """One shard, named as in TFDS."""
        return self.folder / f"{self}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def find_splits(folder: AnyPath) -> list[Split]:
    """Returns every split that the folder has a file of, finished or not, sorted.

    Raises:
      DatasetError: the folder does not exist, or contains no file of a dataset.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; {MAKE_DATASET}")
    groups = {match.groups() for path in folder.iterdir() if (match := _SPLIT_FILE.fullmatch(path.name))}
    if not groups:
        raise DatasetError(f"{folder}: no dataset here; {MAKE_DATASET}")
    return sorted({Split(folder, one or other, split or its) for one, split, other, its in groups})


def choose_splits(splits: list[Split], split: str) -> list[Split]:
    """Returns the splits of one name: several if the folder contains several datasets.

    Raises:
      DatasetError: there is no such split; the message lists the existing ones.
    """
    chosen = [candidate for candidate in splits if candidate.split == split]
    if not chosen:
        present = ", ".join(sorted({candidate.split for candidate in splits}))
        raise DatasetError(f"{splits[0].folder}: no split {split!r} here, only {present}")
    return chosen


def choose_split(folder: AnyPath, split: str) -> Split:
    """Returns the one split of this name in a folder.

    Raises:
      DatasetError: there is none, or several datasets share the folder.
    """
    chosen = choose_splits(find_splits(folder), split)
    if len(chosen) > 1:
        names = ", ".join(one.name for one in chosen)
        raise DatasetError(f"{folder}: several datasets with a split {split!r}: {names}; give each a folder")
    return chosen[0]

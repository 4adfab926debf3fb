"""The splits in a dataset's folder, and the paths of their files."""

import dataclasses
import re

from data_prep.errors import DatasetError
from data_prep.storage.paths import AnyPath

MAKE_DATASET = "create a dataset with `python -m data_prep --images=DIR --output=DATASET`"
# Not the metadata, NAME-SPLIT.json, as which other files are named.
_SPLIT_FILE = re.compile(
    r"([^.].*)-(\w+)\.(?:index\.npy|skipped\.jsonl|inputs\.jsonl|tfrecord-.*)|\.(.+)-(\w+)\.unfinished"
)


@dataclasses.dataclass(frozen=True, order=True)
class Split:
    """One split of a dataset and the paths of its files, which `data_prep.dataset` lists.

    Attributes:
      folder: the dataset's folder.
      name: the dataset's name.
      split: the split's name.
    """

    folder: AnyPath
    name: str
    split: str

    def __str__(self) -> str:
        return f"{self.name}-{self.split}"

    @property
    def metadata_path(self) -> AnyPath:
        """Path of the metadata, which is written last: a split that has metadata is finished."""
        return self.folder / f"{self}.json"

    @property
    def index_path(self) -> AnyPath:
        """Path of the index of record offsets."""
        return self.folder / f"{self}.index.npy"

    @property
    def skipped_path(self) -> AnyPath:
        """Path of the list of skipped images."""
        return self.folder / f"{self}.skipped.jsonl"

    @property
    def inputs_path(self) -> AnyPath:
        """Path of the list of input files."""
        return self.folder / f"{self}.inputs.jsonl"

    @property
    def unfinished_path(self) -> AnyPath:
        """Path of the scratch folder of a job that has not finished."""
        return self.folder / f".{self}.unfinished"

    def shard_files(self) -> list[AnyPath]:
        """Returns the paths of all existing shards, whatever their number."""
        return sorted(self.folder.glob(f"{self}.tfrecord-*"))

    def shard_path(self, shard: int, num_shards: int) -> AnyPath:
        """Returns the path of one shard, named as in TFDS."""
        return self.folder / f"{self}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def find_splits(folder: AnyPath) -> list[Split]:
    """Returns every split of which the folder has a file, finished or not, sorted.

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
    """Returns the splits with this name: several if the folder contains several datasets.

    Raises:
      DatasetError: there is no such split; the message lists the existing ones.
    """
    chosen = [candidate for candidate in splits if candidate.split == split]
    if not chosen:
        present = ", ".join(sorted({candidate.split for candidate in splits}))
        raise DatasetError(f"{splits[0].folder}: no split {split!r} here, only {present}")
    return chosen


def choose_split(folder: AnyPath, split: str) -> Split:
    """Returns the only split with this name in a folder, ignoring unfinished ones if another is finished.

    Raises:
      DatasetError: there is none, or several datasets share the folder.
    """
    chosen = choose_splits(find_splits(folder), split)
    chosen = [one for one in chosen if one.metadata_path.exists()] or chosen
    if len(chosen) > 1:
        names = ", ".join(one.name for one in chosen)
        raise DatasetError(f"{folder}: several datasets with a split {split!r}: {names}; give each a folder of its own")
    return chosen[0]

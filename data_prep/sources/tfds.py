"""Images of a prepared TFDS dataset, in TFRecord or ArrayRecord shards, read without TensorFlow.

Opening a source queries tfds once for the features, the splits, and the names and lengths of the shards. The workers
do not need tfds.
"""

import dataclasses
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from google.protobuf.message import DecodeError

from data_prep.dataset import records, tfrecord
from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError, one_line
from data_prep.sources.shard_ranges import ShardList, ShardRange
from data_prep.sources.source import Item, input_file, raise_unreadable
from data_prep.storage.paths import AnyPath, parse_path
from data_prep.storage.remote import RemotePath

INFO = "dataset_info.json"
IDS = ("image_id", "image/filename", "file_name", "filename", "image/id", "id")  # the first one in the dataset is used
_BATCH = 8  # examples of an ArrayRecord shard that are in memory at once


@dataclasses.dataclass(frozen=True)
class Fields:
    """The names of the features that are read from an example; None for those that the dataset lacks.

    Attributes:
      image: the feature with the bytes of an image file.
      image_id: the feature with the id, which is text or a whole number.
      label: the feature with the label, a whole number; -1 means no label.
      num_classes: the number of classes if they have names; a label must be below it.
    """

    image: str
    image_id: str | None
    label: str | None
    num_classes: int | None


@dataclasses.dataclass(frozen=True)
class Examples:
    """Consecutive examples of a split: a slice of a `Tfds` source."""

    ranges: tuple[ShardRange, ...]
    split: str
    fields: Fields
    array_record: bool

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[Item]:
        read = _array_records if self.array_record else _tfrecords
        for range_ in self.ranges:
            for index, data in enumerate(read(range_), range_.start):
                yield self._item(data, f"{self.split}/{range_.number:05d}-{index:06d}")

    def _item(self, data: bytes, place: str) -> Item:
        """Returns an example as an `Item`; a corrupt one fails only in its `read`, so others are not affected."""
        image_id, fields = place, self.fields
        try:
            features = records.Example.FromString(data).features.feature
            if fields.image_id is not None:
                value = _value(features, fields.image_id, "bytes_list", "int64_list")
                image_id = value.decode() if isinstance(value, bytes) else str(value)
            label = -1 if fields.label is None else _value(features, fields.label, "int64_list")
            if label < -1 or (fields.num_classes is not None and label >= fields.num_classes):
                raise ValueError(f"{fields.label} {label} is not one of {fields.num_classes or 'the possible'} classes")
            return Item(image_id, partial(bytes, _value(features, fields.image, "bytes_list")), label)
        except (DecodeError, ValueError) as error:
            return Item(image_id, partial(raise_unreadable, f"corrupt example {place}: {error}"))


@dataclasses.dataclass(frozen=True)
class Tfds:
    """One split of a prepared TFDS dataset.

    Attributes:
      folder: the dataset's folder, which contains dataset_info.json.
      classes: the names of the classes; empty if there are no labels, or they are plain numbers.
      shards: the split's files.
      split: the split's name.
      fields: the features that are read from each example.
      array_record: whether shards are ArrayRecord files; otherwise they are TFRecord files.
    """

    kind: ClassVar[str] = "tfds"
    notes: ClassVar[tuple[str, ...]] = ()
    folder: AnyPath
    classes: tuple[str, ...]
    shards: ShardList
    split: str
    fields: Fields
    array_record: bool

    @property
    def num_images(self) -> int:
        """The number of examples in the split."""
        return self.shards.total

    def inputs(self) -> Iterator[Input]:
        """Yields features.json, then the split's shards; not dataset_info.json, which changes with other splits."""
        for path in (self.folder / "features.json", *self.shards.paths):
            yield input_file(path, path.name)

    def slice(self, start: int, stop: int) -> Examples:
        """Returns images number `start` to `stop` (exclusive)."""
        return Examples(self.shards.cut(start, stop), self.split, self.fields, self.array_record)


def open_tfds(spec: str, data_dir: AnyPath | None = None) -> Tfds:
    """Opens a split of a prepared dataset.

    Args:
      spec: WHERE:SPLIT, where WHERE is a folder that contains dataset_info.json, or a dataset as tfds spells it: NAME,
        NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION; without a version, the newest.
      data_dir: the folder in which datasets are found by name; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
      PrepError: the dataset, the split or some of its files are missing, or it has no usable image feature.
    """
    import tensorflow_datasets as tfds

    where, _, split = spec.rpartition(":")
    if not where or not split or split.startswith("//"):  # "//": a URL without a split
        raise PrepError(
            f"{spec!r} does not name a dataset and a split; give NAME:SPLIT, such as coco/2017:train, or FOLDER:SPLIT"
        )
    folder = _find(where, data_dir)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # caused by tfds's use of protobuf
            info = tfds.builder_from_directory(str(folder)).info
            features = dict(info.features.items())
    except Exception as error:  # tfds raises nearly any exception on a corrupt or unusual description
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise PrepError(f"{folder}: tfds cannot open this dataset ({what}); prepare or copy it again") from error
    if split not in info.splits:
        raise PrepError(f"{folder} has no split {split!r}; its splits are {', '.join(info.splits) or 'none'}")
    file_format = info.file_format.value
    if file_format not in ("tfrecord", "array_record"):
        raise PrepError(
            f"{folder}: {file_format} files are not supported; prepare the dataset with file_format='array_record'"
        )
    if file_format == "array_record" and isinstance(folder, RemotePath):
        raise PrepError(f"{folder}: array_record files are read only from local disks; copy the folder to one")
    shards = ShardList(
        tuple(parse_path(os.fspath(path)) for path in info.splits[split].filepaths),
        tuple(info.splits[split].shard_lengths),
    )
    missing = [path for path in shards.paths if not path.is_file()]
    if missing:
        raise PrepError(
            f"{missing[0]} is missing (missing shards: {len(missing)} of {len(shards.paths)}); copy it again"
        )
    if not shards.total:
        raise PrepError(f"{folder}: split {split!r} has no examples; choose another of {', '.join(info.splits)}")
    return _source_from_features(folder, shards, split, features, file_format == "array_record")


def _source_from_features(
    folder: AnyPath, shards: ShardList, split: str, features: dict[str, Any], array_record: bool
) -> Tfds:
    """Returns the source after choosing the features to read among those at the top level."""
    from tensorflow_datasets import features as kinds

    found = [
        name
        for name, one in sorted(features.items())
        if isinstance(one, kinds.Image) and not isinstance(one, kinds.LabeledImage)
    ]
    if "image" not in found and len(found) != 1:
        what = f"has several images ({', '.join(found)}), none named 'image'" if found else "has no image"
        raise PrepError(f"{folder} {what}; its features are {', '.join(sorted(features))}: choose another dataset")
    image = "image" if "image" in found else found[0]
    if np.dtype(features[image].np_dtype) not in (np.uint8, np.uint16):
        raise PrepError(
            f"{folder}: {image} has pixels of {features[image].np_dtype}; choose a dataset with 8 or 16 bits"
        )

    def is_scalar(name: str, dtypes: str) -> bool:
        one = features.get(name)
        return isinstance(one, kinds.Tensor) and one.shape == () and np.dtype(one.np_dtype).kind in dtypes

    image_id = next((name for name in IDS if is_scalar(name, "iuOSU")), None)
    labels = [name for name, one in features.items() if isinstance(one, kinds.ClassLabel)]
    label = "label" if is_scalar("label", "iu") else labels[0] if len(labels) == 1 else None
    classes = tuple(features[label].names) if label in labels and features[label].num_classes is not None else ()
    return Tfds(folder, classes, shards, split, Fields(image, image_id, label, len(classes) or None), array_record)


def _find(where: str, data_dir: AnyPath | None) -> AnyPath:
    """Returns the folder of a dataset."""
    folder = parse_path(where).expanduser()
    if (folder / INFO).is_file():
        return folder
    spelled = re.fullmatch(r"([a-zA-Z_]\w*)(?:/([\w.+-]+))?(?::((?:\d+|\*)(?:\.(?:\d+|\*)){2}))?", where)
    if spelled is None:
        raise PrepError(
            f"{where} is neither a folder that contains {INFO} nor a dataset name such as coco/2017:1.1.0; "
            f"{_describe_contents(folder)}"
        )
    name, config, version = spelled.groups()
    root = parse_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not (root / name).is_dir():
        raise PrepError(
            f"no dataset {name!r} in {root} and no folder {where} that contains {INFO}; "
            f"prepare it, or give --tfds_dir; {_describe_contents(root)}"
        )
    folder = root / name
    if config is None and not _versions(folder):
        config = _default_config(folder)
    folder /= config or ""
    versions = _versions(folder)
    fitting = [
        numbers
        for numbers in versions
        if version is None
        or all(one in ("*", str(number)) for one, number in zip(version.split("."), numbers, strict=True))
    ]
    if not fitting:
        what = f"version {version}" if version else "prepared version"
        contents = _describe_contents(folder)
        raise PrepError(f"no {what} of {where} in {folder}; give a config and version that exist; {contents}")
    return versions[max(fitting)]


def _versions(folder: AnyPath) -> dict[tuple[int, ...], AnyPath]:
    """Returns the folders of the prepared versions of a dataset, by version."""
    return {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in folder.glob(f"*/{INFO}")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }


def _default_config(folder: AnyPath) -> str | None:
    """Returns the config that tfds recorded as the default, None if it recorded none."""
    try:
        return json.loads((folder / ".config" / "metadata.json").read_bytes()).get("default_config_name")
    except (FileNotFoundError, ValueError):
        return None


def _describe_contents(folder: AnyPath) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"{folder} contains {', '.join(names[:10]) or 'nothing'}{', ...' if len(names) > 10 else ''}"


def _tfrecords(range_: ShardRange) -> Iterator[bytes]:
    number = range_.start
    try:
        for _, data in itertools.islice(tfrecord.frames(range_.path, skip=range_.start), len(range_)):
            yield data
            number += 1
    except tfrecord.FrameError as error:
        raise _shard_error(range_, error.offset, error.reason) from error
    if number < range_.stop:
        raise _shard_error(range_, range_.path.stat().st_size, f"{number} examples, fewer than {INFO} says")


def _array_records(range_: ShardRange) -> Iterator[bytes]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(range_.path), options="readahead_buffer_size:0", file_reader_buffer_size=1 << 15)
        if reader.ok() and reader.num_records() < range_.stop:
            raise _shard_error(range_, 0, f"{reader.num_records()} examples, fewer than {INFO} says")
        for start in range(range_.start, range_.stop, _BATCH) if reader.ok() else ():
            yield from reader.read(start, min(start + _BATCH, range_.stop))
        reader.close()  # raises the error of a corrupt file
    except RuntimeError as error:  # its message names the byte
        raise OSError(f"{range_.path}: {one_line(error)}; copy it again") from error


def _shard_error(range_: ShardRange, offset: int, what: str) -> OSError:
    return OSError(f"{range_.path}: byte {offset}: {what}; prepare or copy it again")


def _value(features: Mapping[str, Any], name: str, *kinds: str) -> Any:
    """Returns the only value of a feature that is stored as one of some kinds.

    Raises:
      ValueError: there is no value, or there are several.
    """
    values = [value for kind in kinds if name in features for value in getattr(features[name], kind).value]
    if len(values) != 1:
        raise ValueError(f"{len(values)} values of {name} instead of one")
    return values[0]

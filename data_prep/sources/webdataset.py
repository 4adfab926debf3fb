"""Images in WebDataset tar shards, where consecutive members of a tar that share a key form one sample.

A member's key is its path up to the first dot of the base name. The rest of the base name, in lower case, is its
suffix: `train/0001.seg.png` has the key `train/0001` and the suffix `.seg.png`. A sample's image is its first JPEG, or
else its first member whose whole suffix is that of an image file, so PNG masks next to photographs are not mistaken
for them. A `.cls` member is the label, a whole number. Samples without an image are skipped.

Only plain regular files count. Directories, links, sparse files, and members whose base name has no dot or begins with
one are skipped. Tars must not be compressed, because images are read by their offset.
"""

import dataclasses
import itertools
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from data_prep import images
from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.sources.shard_ranges import ShardList, ShardRange
from data_prep.sources.source import Item, input_file, raise_unreadable
from data_prep.storage.paths import AnyPath, glob_files, parse_path, read_range, walk_files

_JPEG = (".jpg", ".jpeg")
_LONGEST_LABEL = 24  # bytes of a .cls, including white space


class Member(NamedTuple):
    """The path of a member within its tar, and the offset and size of its content, in bytes."""

    name: str
    offset: int
    size: int


class Sample(NamedTuple):
    """The members that share a key, by suffix, in the order of the tar."""

    key: str
    members: dict[str, Member]

    @property
    def image(self) -> Member | None:
        """The member that is the image, None if there is none."""
        found = [suffix for suffix in self.members if suffix in images.SUFFIXES]
        return self.members[min(found, key=lambda suffix: suffix not in _JPEG)] if found else None


@dataclasses.dataclass(frozen=True)
class Samples:
    """Consecutive samples with images: a slice of a `WebDataset` source."""

    ranges: tuple[ShardRange, ...]

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[Item]:
        for range_ in self.ranges:
            with_image = (sample for sample in scan(range_.path) if sample.image is not None)
            number = range_.start
            for sample in itertools.islice(with_image, range_.start, range_.stop):
                yield _item(range_.path, sample)
                number += 1
            if number < range_.stop:
                raise OSError(f"{range_.path} has fewer images than when the job was planned; run the job again")


@dataclasses.dataclass(frozen=True)
class WebDataset:
    """A source of tar shards, in order; labels are numbers without names."""

    kind: ClassVar[str] = "webdataset"
    classes: ClassVar[tuple[str, ...]] = ()
    notes: ClassVar[tuple[str, ...]] = ()
    files: ShardList

    @property
    def num_images(self) -> int:
        """The number of samples that have an image."""
        return self.files.total

    def inputs(self) -> Iterator[Input]:
        """Yields the tars, named by their paths below their common folder."""
        absolute = [_absolute(path) for path in self.files.paths]
        folder = os.path.commonpath([os.path.dirname(path) for path in absolute])
        for path, name in zip(self.files.paths, absolute, strict=True):
            yield input_file(path, os.path.relpath(name, folder))

    def slice(self, start: int, stop: int) -> Samples:
        """Returns images number `start` to `stop` (exclusive)."""
        return Samples(self.files.cut(start, stop))


def open_webdataset(spec: str) -> WebDataset:
    """Opens the images of tar shards; reads the headers of all members once.

    Args:
      spec: a folder, for all .tar files below it in the order of their names; or paths with `{000..127}`, `{a,b}` and
        wildcards, separated by `::` if there are several.

    Raises:
      PrepError: a tar is missing, truncated, corrupt or compressed, has no images, or has two members of one name or a
        sample whose members are not consecutive.
    """
    paths = _find(spec)
    return WebDataset(ShardList(paths, tuple(map(_count, paths))))


def scan(path: AnyPath) -> Iterator[Sample]:
    """Yields the samples of a tar, with or without an image; reads only headers and retains one sample at a time.

    Raises:
      OSError: the tar cannot be read, is truncated or corrupt, or a sample has two members of one suffix.
    """
    for key, group in itertools.groupby(_members(path), key=lambda keyed: keyed[0]):
        members: dict[str, Member] = {}
        for _, suffix, member in group:
            if suffix in members:
                raise OSError(f"{path}: {members[suffix].name} and {member.name} have the same suffix in one sample")
            members[suffix] = member
        yield Sample(key, members)


def _members(path: AnyPath) -> Iterator[tuple[str, str, Member]]:
    """Yields the key, the suffix and the location of each member."""
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # tarfile would store all of them
                    folder, slash, name = info.name.rpartition("/")
                    stem, dot, suffix = name.partition(".")
                    if info.isreg() and not info.issparse() and stem and dot:
                        member = Member(info.name, info.offset_data, info.size)
                        yield folder + slash + stem, dot + suffix.lower(), member
                end = tar.offset
        except (tarfile.TarError, ValueError) as error:  # ValueError: a corrupt PAX header
            raise OSError(f"{path}: truncated, corrupt or not a plain tar ({error})") from error
        # tarfile ends the archive not only at the end mark, but also at a corrupt header and at the end of the file.
        # What follows the mark is checked, because concatenated tars continue there.
        file.seek(end)
        rest = file.read(tarfile.RECORDSIZE)
        if len(rest) < tarfile.BLOCKSIZE or any(rest):
            what = "neither a header nor the end of the tar" if rest else "no end mark, so the tar is truncated"
            raise OSError(f"{path}: byte {end}: {what}")


def _item(path: AnyPath, sample: Sample) -> Item:
    image = sample.image
    try:
        label, read = _label(path, sample), partial(_read, path, image)
    except ValueError as error:
        label, read = -1, partial(raise_unreadable, str(error))
    return Item(image.name, read, label, partial(_beside, path, sample))


def _label(path: AnyPath, sample: Sample) -> int:
    """Returns the number in a sample's .cls, -1 if it has none.

    Raises:
      ValueError: the .cls is not a whole number.
    """
    member = sample.members.get(".cls")
    if member is None:
        return -1
    text = _read(path, member._replace(size=min(member.size, _LONGEST_LABEL)))
    if not re.fullmatch(rb"\s*(-1|\d{1,18})\s*", text):
        raise ValueError(f"{member.name} is not a whole number: {text!r}")
    return int(text)


def _beside(path: AnyPath, sample: Sample, suffix: str) -> bytes:
    if suffix not in sample.members:
        raise FileNotFoundError(f"{path} has no {sample.key}{suffix}")
    return _read(path, sample.members[suffix])


def _read(path: AnyPath, member: Member) -> bytes:
    data = read_range(path, member.offset, member.size)
    if len(data) < member.size:
        raise OSError(f"{path}: {member.name} is truncated")
    return data


def _absolute(path: AnyPath) -> str:
    """Returns the absolute path; for a URL, a path that no file has."""
    return os.path.abspath(path if isinstance(path, Path) else f"/{path}")


def _count(path: AnyPath) -> int:
    """Returns the number of samples of a tar that have an image."""
    seen: set[str] = set()
    suffixes: set[str] = set()
    count = 0
    try:
        for sample in scan(path):
            if sample.key in seen:
                raise PrepError(
                    f"{path}: the members of sample {sample.key} are not consecutive; write the tar in name order"
                )
            seen.add(sample.key)
            suffixes.update(sample.members)
            count += sample.image is not None
    except OSError as error:
        what = str(error) if error.errno is None else f"{path}: {error.strerror}"
        raise PrepError(f"{what}; create or copy it again, uncompressed") from error
    if not count:
        found = " ".join(sorted(suffixes)[:10]) or "no files"
        raise PrepError(f"{path}: no images: looked for {' '.join(sorted(images.SUFFIXES))}, found {found}")
    return count


def _find(spec: str) -> tuple[AnyPath, ...]:
    """Returns the tars that a specification names, each once."""
    folder = parse_path(spec)
    if folder.is_dir():
        names = [PurePosixPath(name) for name in walk_files(folder)]
        names = sorted(name for name in names if name.suffix == ".tar" and not name.name.startswith("."))
        if not names:
            raise PrepError(f"{spec}: no .tar files below this folder; give the folder or the pattern of the shards")
        return tuple(folder / str(name) for name in names)
    if re.match(r"[a-z0-9+]+:(?!//)", spec):
        raise PrepError(f"{spec}: shards are read from files, not from commands; copy the shards first")
    paths: list[AnyPath] = []
    for pattern in itertools.chain.from_iterable(map(_expand, spec.split("::"))):
        plain = parse_path(pattern)
        found = [plain] if plain.is_file() else glob_files(pattern)
        if not found:
            raise PrepError(f"{pattern}: no such file; give the tar shards as a folder, or as train-{{000..127}}.tar")
        paths += found
    path, times = Counter(paths).most_common(1)[0]
    if times > 1:
        raise PrepError(f"{spec} names {path} {times} times; give patterns that do not overlap")
    return tuple(paths)


def _expand(pattern: str) -> list[str]:
    """Expands `{a,b}` and `{000..127}` as shells do; any other text between braces stays as it is."""
    if re.search(r"\{[^{}]*\{", pattern):
        raise PrepError(f"{pattern}: nested braces are not supported; separate the patterns by ::")
    parts = re.split(r"\{([^{}]*)\}", pattern)
    return [
        "".join(spelled) for spelled in itertools.product(*map(_alternatives, parts, itertools.cycle((False, True))))
    ]


def _alternatives(part: str, in_braces: bool) -> list[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", part)
    if not in_braces:
        return [part]
    if ends is None:
        return part.split(",") if "," in part else ["{" + part + "}"]
    first, last = map(int, ends.groups())
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]

"""Images in WebDataset tar shards: consecutive members of a tar that share a key are one sample.

A member's key is its path up to the first dot of the base name, the rest of the base name, in lower case, its suffix:
`train/0001.seg.png` has the key `train/0001` and the suffix `.seg.png`. A sample's image is its first JPEG, or else its
first member whose whole suffix is that of an image file; so PNG masks beside photographs are not taken for them. A
member `.cls` is the label, a whole number. Samples without an image are passed over.

Only plain regular files count: directories, links, sparse files, and members whose base name has no dot or begins with
one are passed over. Tars must not be compressed, because images are read by their offset.
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
from data_prep.sources.source import Item, input_file, unreadable
from data_prep.storage.paths import AnyPath, glob_files, parse_path, read_range, walk_files

_JPEG = (".jpg", ".jpeg")
_LONGEST_LABEL = 24  # bytes of a .cls, white space included


class Member(NamedTuple):
    """Where the content of a member is: path within the tar, offset and size in bytes."""

    name: str
    offset: int
    size: int


class Sample(NamedTuple):
    """Members of one key, by suffix, in the order of the tar."""

    key: str
    members: dict[str, Member]

    @property
    def image(self) -> Member | None:
        """The member that is the image, if there is one."""
        found = [suffix for suffix in self.members if suffix in images.SUFFIXES]
        return self.members[min(found, key=lambda suffix: suffix not in _JPEG)] if found else None


@dataclasses.dataclass(frozen=True)
class Samples:
    """Consecutive samples with images; a slice of a source."""

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
                raise OSError(f"{range_.path}: fewer images than it had when the job was planned; run again")


@dataclasses.dataclass(frozen=True)
class WebDataset:
    """Tar shards, in order; labels are numbers without names."""

    kind: ClassVar[str] = "webdataset"
    classes: ClassVar[tuple[str, ...]] = ()
    files: ShardList

    @property
    def num_images(self) -> int:
        """How many samples have an image."""
        return self.files.total

    def inputs(self) -> Iterator[Input]:
        """The tars, by their paths below the folder that holds all of them."""
        absolute = [_absolute(path) for path in self.files.paths]
        folder = os.path.commonpath([os.path.dirname(path) for path in absolute])
        for path, name in zip(self.files.paths, absolute, strict=True):
            yield input_file(path, os.path.relpath(name, folder))

    def slice(self, start: int, stop: int) -> Samples:
        """The images from number `start` to `stop`, which is excluded."""
        return Samples(self.files.cut(start, stop))


def open_webdataset(spec: str) -> WebDataset:
    """The images of tar shards; reads the headers of all members once.

    Args:
      spec: a folder, for all .tar files below it in the order of their names; or paths with `{000..127}`, `{a,b}` and
        wildcards, several separated by `::`.

    Raises:
      PrepError: a tar is missing, cut short, damaged or compressed, has no images, or has two members of one name or
        members of one sample that are apart.
    """
    paths = _find(spec)
    return WebDataset(ShardList(paths, tuple(map(_count, paths))))


def scan(path: AnyPath) -> Iterator[Sample]:
    """The samples of a tar, with or without an image; reads headers only and holds one sample at a time.

    Raises:
      OSError: the tar cannot be read, is cut short or damaged, or a sample has two members of one suffix.
    """
    for key, group in itertools.groupby(_members(path), key=lambda keyed: keyed[0]):
        members: dict[str, Member] = {}
        for _, suffix, member in group:
            if suffix in members:
                raise OSError(f"{path}: {members[suffix].name} and {member.name} are the same part of one sample")
            members[suffix] = member
        yield Sample(key, members)


def _members(path: AnyPath) -> Iterator[tuple[str, str, Member]]:
    """Key, suffix and place of each member."""
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # tarfile would keep them all
                    folder, slash, name = info.name.rpartition("/")
                    stem, dot, suffix = name.partition(".")
                    if info.isreg() and not info.issparse() and stem and dot:
                        member = Member(info.name, info.offset_data, info.size)
                        yield folder + slash + stem, dot + suffix.lower(), member
                end = tar.offset
        except (tarfile.TarError, ValueError) as error:  # ValueError: of a damaged PAX header
            raise OSError(f"{path}: damaged or cut short, or no plain tar ({error})") from error
        # For tarfile, a damaged header and the end of the file end the archive as well as the mark does. What follows
        # the mark is looked at, because tars that were joined go on there.
        file.seek(end)
        rest = file.read(tarfile.RECORDSIZE)
        if len(rest) < tarfile.BLOCKSIZE or any(rest):
            what = "neither a header nor the end of the tar" if rest else "no end mark, so it is cut short"
            raise OSError(f"{path}: byte {end}: {what}")


def _item(path: AnyPath, sample: Sample) -> Item:
    image = sample.image
    try:
        label, read = _label(path, sample), partial(_read, path, image)
    except ValueError as error:
        label, read = -1, partial(unreadable, str(error))
    return Item(image.name, read, label, partial(_beside, path, sample))


def _label(path: AnyPath, sample: Sample) -> int:
    """The number in a sample's .cls, -1 if it has none.

    Raises:
      ValueError: it holds something else.
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
        raise OSError(f"{path}: {member.name} is cut short")
    return data


def _absolute(path: AnyPath) -> str:
    """The path below the root; for a URL, one where no file is."""
    return os.path.abspath(path if isinstance(path, Path) else f"/{path}")


def _count(path: AnyPath) -> int:
    """Samples of a tar that have an image."""
    seen: set[str] = set()
    suffixes: set[str] = set()
    count = 0
    try:
        for sample in scan(path):
            if sample.key in seen:
                raise PrepError(
                    f"{path}: members of sample {sample.key} are apart; write the tar in the order of the names"
                )
            seen.add(sample.key)
            suffixes.update(sample.members)
            count += sample.image is not None
    except OSError as error:
        what = str(error) if error.errno is None else f"{path}: {error.strerror}"
        raise PrepError(f"{what}; make or copy it again, uncompressed") from error
    if not count:
        found = " ".join(sorted(suffixes)[:10]) or "no files"
        raise PrepError(f"{path}: no images: looked for {' '.join(sorted(images.SUFFIXES))}, found {found}")
    return count


def _find(spec: str) -> tuple[AnyPath, ...]:
    """The tars that a specification names, each once."""
    folder = parse_path(spec)
    if folder.is_dir():
        names = [PurePosixPath(name) for name in walk_files(folder)]
        names = sorted(name for name in names if name.suffix == ".tar" and not name.name.startswith("."))
        if not names:
            raise PrepError(f"{spec}: no .tar files below this folder; give the folder or the pattern of the shards")
        return tuple(folder / str(name) for name in names)
    if re.match(r"[a-z0-9+]+:(?!//)", spec):
        raise PrepError(f"{spec}: only files can be read, not commands; copy the shards first")
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
    """Spells out `{a,b}` and `{000..127}` as shells do; anything else between braces is left as it is."""
    if re.search(r"\{[^{}]*\{", pattern):
        raise PrepError(f"{pattern}: braces within braces are not read; separate the patterns by ::")
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

"""The list of a split's input files, saved with the split so that a later run can report which of them changed."""

import datetime
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from data_prep.dataset.json_lines import read_json_lines
from data_prep.storage.paths import AnyPath


class Input(NamedTuple):
    """An input file of a dataset, with what reveals that the file has changed.

    Attributes:
      name: path of the file, relative to the folder that was searched, if any.
      size: size in bytes; -1 if the file does not exist.
      modified: modification time, in nanoseconds since 1970.
    """

    name: str
    size: int
    modified: int


def write(inputs: Iterable[Input], out: BinaryIO) -> None:
    """Writes a line [name, size, modified] for each file."""
    out.writelines(json.dumps(entry).encode() + b"\n" for entry in inputs)


def read(path: AnyPath) -> Iterator[Input]:
    """Yields the files of a list that `write` wrote.

    Raises:
      FileNotFoundError: the list does not exist.
    """
    with path.open("rb") as lines:
        for line in lines:
            yield Input(*json.loads(line))


def check(path: AnyPath) -> None:
    """Checks the list of a finished split.

    Raises:
      DatasetError: the file is missing, or a line is malformed; names the first such line.
    """

    def is_entry(line: object) -> bool:
        return isinstance(line, list) and [type(value) for value in line] == [str, int, int]

    for _ in read_json_lines(path, is_entry, "a list [name, bytes, modification time]"):
        pass


def digest(inputs: Iterable[Input]) -> str:
    """Returns the SHA-256 of names and sizes, without the times, which differ between copies of the same files."""
    sha = hashlib.sha256()
    for entry in inputs:
        sha.update(f"{entry.name}\0{entry.size}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()


def difference(before: Iterable[Input], now: Iterable[Input]) -> str | None:
    """Describes the first file that differs; None if none does."""
    before, now = iter(before), iter(now)
    for earlier, entry in itertools.zip_longest(before, now):
        if earlier != entry:
            break
    else:  # equal lists are compared without being held in memory
        return None
    before, now = itertools.chain(filter(None, (earlier,)), before), itertools.chain(filter(None, (entry,)), now)
    before, now = {entry.name: entry for entry in before}, {entry.name: entry for entry in now}
    for name, entry in now.items():
        earlier = before.get(name)
        if earlier is None:
            return f"{name} is new"
        if earlier.size != entry.size:
            return f"{name} had {_size(earlier)}, now {_size(entry)}"
        if earlier.modified != entry.modified:
            return f"{name} was modified: {_time(earlier)}, now {_time(entry)}"
    gone = next((name for name in before if name not in now), None)
    return None if gone is None else f"{gone} is gone"


def _size(entry: Input) -> str:
    return "no file" if entry.size < 0 else f"{entry.size} bytes"


def _time(entry: Input) -> str:
    moment = datetime.datetime.fromtimestamp(entry.modified / 1e9, datetime.UTC)
    return moment.isoformat(" ", "milliseconds").removesuffix("+00:00")

"""Files in object stores, by URL: gs://BUCKET/..., s3://BUCKET/..., az://CONTAINER/..., through fsspec.

epath, which tfds uses, is not used here: over fsspec it lists folders by names without their scheme, knows no times of
change of S3, remembers listings that other machines have outdated, and leaves fsspec wherever TensorFlow is installed.
"""

import dataclasses
import datetime
import errno
import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_prep.errors import PrepError, one_line

PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}  # what fsspec needs, by scheme
EXTRAS = {"gcsfs": "-e .[gcs]"}
_BUFFER_BYTES = 1 << 22  # what one request of an open file fetches
_TIMES = ("mtime", "LastModified", "last_modified", "created")  # as the stores call the time of change


class Status(NamedTuple):
    """Of an object, what `os.stat` would tell: size in bytes, time of change in nanoseconds since 1970."""

    st_size: int
    st_mtime_ns: int


@dataclasses.dataclass(frozen=True, order=True)
class RemotePath:
    """An object, or the folder that objects' names make; what data_prep uses of `pathlib.Path`, for a URL.

    A folder is there as long as objects are below it. What is missing raises FileNotFoundError, and whatever else goes
    wrong is told as PrepError, which is no OSError: an image is left out because it is not there, never because its
    store did not answer.

    Attributes:
      url: scheme, bucket and names, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}") if name else self

    @property
    def parent(self) -> "RemotePath":
        """The folder."""
        return RemotePath(self.url.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def with_suffix(self, suffix: str) -> "RemotePath":
        """The path with another suffix, or none."""
        return self.parent / PurePosixPath(self.name).with_suffix(suffix).name

    def absolute(self) -> "RemotePath":
        """Itself: a URL depends on nothing."""
        return self

    resolve = expanduser = absolute

    def stat(self) -> Status:
        """Size and time of change.

        Raises:
          FileNotFoundError: there is no such object.
        """
        return _status(self._info())

    def exists(self) -> bool:
        """Whether there is an object, or one below."""
        try:
            return bool(self._info())
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        """Whether it is an object."""
        try:
            return self._info()["type"] == "file"
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether objects are below it."""
        try:
            return self._info()["type"] == "directory"
        except FileNotFoundError:
            return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """Objects and folders directly below it; none if it is not there."""
        return (self / name for name in self._listed())

    def folders(self) -> list[str]:
        """Names of the folders directly below it."""
        return [name for name, kind in self._listed().items() if kind == "directory"]

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """What matches a pattern of one name or several, without `**`."""
        first, _, rest = pattern.partition("/")
        for path in self.iterdir():
            if fnmatchcase(path.name, first):
                yield from path.glob(rest) if rest else (path,)

    def walk(self) -> dict[str, Status]:
        """All objects below it, by their paths below it."""
        with _told(self.url) as store:
            found = store.find(self.url, detail=True)
        names = {name.lstrip("/")[len(self._key) + 1 :]: info for name, info in found.items()}
        return {name: _status(info) for name, info in names.items() if name and info["type"] == "file"}

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Opens an object for reading.

        Raises:
          FileNotFoundError: there is no such object.
        """
        if mode != "rb":
            raise ValueError(f"mode {mode!r}: objects are only read, or written whole by `put`")
        return io.BufferedReader(_Reader(self, self.stat().st_size), _BUFFER_BYTES)

    def read_bytes(self) -> bytes:
        """The content."""
        with _told(self.url) as store:
            return store.cat_file(self.url)

    def read_text(self) -> str:
        """The content, of UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, which is excluded and not beyond the end of the object."""
        if start >= stop:
            return b""
        with _told(self.url) as store:
            return store.cat_file(self.url, start=start, end=stop)

    def get(self, path: Path) -> None:
        """Copies the object to a local file."""
        with _told(self.url) as store:
            store.get_file(self.url, str(path))

    def put(self, path: Path) -> None:
        """Makes the object of a local file: whoever reads it meanwhile, or after a failure, has the earlier one."""
        with _told(self.url) as store:
            store.put_file(str(path), self.url)
        size, arrived = path.stat().st_size, self.stat().st_size
        if arrived != size:
            raise PrepError(f"{self.url}: {arrived} of {size} bytes arrived; run again")

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes the object."""
        try:
            with _told(self.url) as store:
                store.rm_file(self.url)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Deletes everything below it, if anything is."""
        with suppress(FileNotFoundError), _told(self.url) as store:
            store.rm(self.url, recursive=True)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: folders are there as soon as objects are below them."""

    def rmdir(self) -> None:
        """Nothing: folders are gone when the last object below them is."""

    @property
    def _key(self) -> str:
        """Bucket and names: with these fsspec's listings begin, some behind a slash."""
        return self.url.partition("://")[2]

    def _info(self) -> dict[str, Any]:
        with _told(self.url) as store:
            return store.info(self.url)

    def _listed(self) -> dict[str, str]:
        """The type of each name directly below."""
        try:
            with _told(self.url) as store:
                entries = store.ls(self.url, detail=True)
        except FileNotFoundError:
            return {}
        # Some stores list a folder's own entry as well.
        keys = {entry["name"].strip("/"): entry["type"] for entry in entries}
        return {key.rpartition("/")[2]: kind for key, kind in keys.items() if key != self._key}


class _Reader(io.RawIOBase):
    """An object's bytes, fetched where they are asked for."""

    def __init__(self, path: RemotePath, size: int):
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._path.read_range(self._at, min(self._at + len(buffer), self._size))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _status(info: Mapping[str, Any]) -> Status:
    moment = next((info[key] for key in _TIMES if info.get(key) is not None), 0)  # folders have none
    seconds = moment.timestamp() if isinstance(moment, datetime.datetime) else moment
    return Status(info["size"], round(seconds * 1e9))


@contextmanager
def _told(url: str) -> Iterator[Any]:
    """Gives the store of a URL; turns its errors, of which each store has its own, into these two.

    Raises:
      FileNotFoundError: the body did not find something.
      PrepError: the scheme is unknown, its package missing, or the body failed in another way.
    """
    store = _store(url.partition("://")[0])
    try:
        yield store
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
    except Exception as error:
        raise PrepError(f"{url}: {one_line(error)}") from error


def _store(scheme: str) -> Any:
    if scheme not in PACKAGES:
        raise PrepError(f"{scheme}:// is not known; a path is local or begins with {'://, '.join(PACKAGES)}://")
    package = PACKAGES[scheme]
    try:
        import fsspec  # here, for its import takes a while that local work need not wait for

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise PrepError(f"{scheme}:// paths need {package}: pip install {EXTRAS.get(package, package)}") from error
    logging.getLogger(package).addHandler(logging.NullHandler())  # what it would print is in its errors
    # fsspec keeps one of each kind for a process. Without a cache of listings: other machines write as well.
    return kind(use_listings_cache=False)

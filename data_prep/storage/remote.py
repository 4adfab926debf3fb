"""Files in object stores, by URL: gs://BUCKET/..., s3://BUCKET/..., az://CONTAINER/..., through fsspec.

epath, which tfds uses, is not used here: over fsspec it lists folders without the scheme, does not know S3's
modification times, caches listings that other machines have outdated, and bypasses fsspec wherever TensorFlow is
installed.
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

PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}  # packages that fsspec needs, by scheme
EXTRAS = {"gcsfs": "-e .[gcs]"}
_BUFFER_BYTES = 1 << 22  # size of one request of an open file
_MODIFIED_KEYS = ("mtime", "LastModified", "last_modified", "created")  # the stores' names for the modification time


class Status(NamedTuple):
    """An object's size in bytes and modification time in nanoseconds since 1970, named as in `os.stat_result`."""

    st_size: int
    st_mtime_ns: int


@dataclasses.dataclass(frozen=True, order=True)
class RemotePath:
    """The URL of an object, or of a folder of objects, with the methods of `pathlib.Path` that data_prep uses.

    A folder exists as long as there are objects below it. A missing object raises FileNotFoundError. Any other failure
    raises PrepError, which is not an OSError: an image is skipped if it is missing, never because its store did not
    answer.

    Attributes:
      url: scheme, bucket and names, without a trailing slash.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}") if name else self

    @property
    def parent(self) -> "RemotePath":
        """The folder that contains this path."""
        return RemotePath(self.url.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def with_suffix(self, suffix: str) -> "RemotePath":
        """Returns the path with another suffix, or with none."""
        return self.parent / PurePosixPath(self.name).with_suffix(suffix).name

    def absolute(self) -> "RemotePath":
        """Returns the path itself: a URL is always absolute."""
        return self

    resolve = expanduser = absolute

    def stat(self) -> Status:
        """Returns the size and modification time.

        Raises:
          FileNotFoundError: there is no such object.
        """
        return _status(self._info())

    def exists(self) -> bool:
        """Returns whether there is such an object, or an object below it."""
        try:
            return bool(self._info())
        except FileNotFoundError:
            return False

    def is_file(self) -> bool:
        """Returns whether the path is an object."""
        try:
            return self._info()["type"] == "file"
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Returns whether there are objects below the path."""
        try:
            return self._info()["type"] == "directory"
        except FileNotFoundError:
            return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yields the objects and folders directly below the path; none if it does not exist."""
        return (self / name for name in self._entry_types())

    def folders(self) -> list[str]:
        """Returns the names of the folders directly below the path."""
        return [name for name, kind in self._entry_types().items() if kind == "directory"]

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """Yields the paths that match a pattern of one or more names, without `**`."""
        first, _, rest = pattern.partition("/")
        for path in self.iterdir():
            if fnmatchcase(path.name, first):
                yield from path.glob(rest) if rest else (path,)

    def walk(self) -> dict[str, Status]:
        """Returns the status of every object below the path, keyed by relative path."""
        with _file_system(self.url) as store:
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
        """Returns the content."""
        with _file_system(self.url) as store:
            return store.cat_file(self.url)

    def read_text(self) -> str:
        """Returns the content, decoded as UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, stop: int) -> bytes:
        """Returns the bytes from `start` up to `stop` (excluded), which must not exceed the size of the object."""
        if start >= stop:
            return b""
        with _file_system(self.url) as store:
            return store.cat_file(self.url, start=start, end=stop)

    def get(self, path: Path) -> None:
        """Copies the object to a local file."""
        with _file_system(self.url) as store:
            store.get_file(self.url, str(path))

    def put(self, path: Path) -> None:
        """Uploads a local file as this object. Readers see the earlier object meanwhile, and after a failure."""
        with _file_system(self.url) as store:
            store.put_file(str(path), self.url)
        size, arrived = path.stat().st_size, self.stat().st_size
        if arrived != size:
            raise PrepError(f"{self.url}: {arrived} of {size} bytes arrived; run again")

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes the object."""
        try:
            with _file_system(self.url) as store:
                store.rm_file(self.url)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Deletes everything below the path, if there is anything."""
        with suppress(FileNotFoundError), _file_system(self.url) as store:
            store.rm(self.url, recursive=True)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a folder exists as soon as there are objects below it."""

    def rmdir(self) -> None:
        """Does nothing: a folder disappears with the last object below it."""

    @property
    def _key(self) -> str:
        """Bucket and names, with which the entries of fsspec's listings begin, some after a slash."""
        return self.url.partition("://")[2]

    def _info(self) -> dict[str, Any]:
        with _file_system(self.url) as store:
            return store.info(self.url)

    def _entry_types(self) -> dict[str, str]:
        """Returns the type of each name directly below the path."""
        try:
            with _file_system(self.url) as store:
                entries = store.ls(self.url, detail=True)
        except FileNotFoundError:
            return {}
        # Some stores also list the folder itself.
        keys = {entry["name"].strip("/"): entry["type"] for entry in entries}
        return {key.rpartition("/")[2]: kind for key, kind in keys.items() if key != self._key}


class _Reader(io.RawIOBase):
    """An object's bytes as a raw stream, fetched on demand."""

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
    moment = next((info[key] for key in _MODIFIED_KEYS if info.get(key) is not None), 0)  # folders have none
    seconds = moment.timestamp() if isinstance(moment, datetime.datetime) else moment
    return Status(info["size"], round(seconds * 1e9))


@contextmanager
def _file_system(url: str) -> Iterator[Any]:
    """Provides the file system of a URL, and translates its errors, which differ among stores, to two exceptions.

    Raises:
      FileNotFoundError: the body requested an object that does not exist.
      PrepError: the scheme is unknown, its package is missing, or the body failed in another way.
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
        raise PrepError(f"{scheme}:// is not supported; give a local path, or one with {'://, '.join(PACKAGES)}://")
    package = PACKAGES[scheme]
    try:
        import fsspec  # imported here: it is slow, and local work does not need it

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise PrepError(f"{scheme}:// paths need {package}: pip install {EXTRAS.get(package, package)}") from error
    logging.getLogger(package).addHandler(logging.NullHandler())  # its errors contain what it would print
    # fsspec caches one instance of each kind per process. Listings are not cached: other machines write as well.
    return kind(use_listings_cache=False)

"""Local paths and object-store paths behind one set of functions."""

import fcntl
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from data_prep.errors import PrepError
from data_prep.storage.remote import RemotePath, Status

AnyPath = Path | RemotePath


def parse_path(text: str | AnyPath) -> AnyPath:
    """Parses text such as gs://BUCKET/FOLDER or ~/FOLDER; returns a path unchanged.

    Raises:
      ValueError: the text is empty.
    """
    if isinstance(text, str):
        return RemotePath(text.rstrip("/")) if "://" in text else local_path(text)
    return text


def local_path(text: str | Path) -> Path:
    """Returns a local path; ~ at its beginning is the home folder, which shells do not replace in --flag=~/FOLDER.

    Raises:
      ValueError: the text is empty.
    """
    if not os.fspath(text):
        raise ValueError("the path is empty; check that the shell variable in it is set")
    return Path(os.path.expanduser(text))


@contextmanager
def file_lock(file: AnyPath, wait: bool) -> Iterator[None]:
    """Locks a local folder, or a local file, which is created if missing. In an object store, nothing is locked.

    Raises:
      BlockingIOError: another process holds the lock, and `wait` is False.
    """
    if isinstance(file, RemotePath):
        yield
        return
    flags = os.O_RDONLY if file.is_dir() else os.O_WRONLY | os.O_CREAT
    descriptor = os.open(file, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def is_below(path: AnyPath, folder: AnyPath) -> bool:
    """Returns whether `path` is `folder` or lies below it."""
    inner, outer = str(path.resolve()), str(folder.resolve())
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def walk_files(folder: AnyPath) -> Iterator[str]:
    """Yields the files below a folder, as relative paths with forward slashes.

    Links to folders are followed, except to a folder that the walk is in already.
    """
    if isinstance(folder, RemotePath):
        yield from folder.walk()
        return
    for root, folders, names in os.walk(folder, followlinks=True):
        relative = Path(root).relative_to(folder)
        folders[:] = [name for name in folders if not _leads_back(folder, relative / name)]
        yield from ((relative / name).as_posix() for name in names)


def _leads_back(folder: Path, relative: Path) -> bool:
    """Returns whether a path below a folder is a link to a folder on the way to it."""
    path = folder / relative
    if not path.is_symlink():
        return False
    target = path.resolve()
    return any((folder / parent).resolve() == target for parent in relative.parents)


def subfolders(folder: AnyPath) -> list[str]:
    """Returns the names of the folders directly below a folder."""
    if isinstance(folder, RemotePath):
        return folder.folders()
    return [path.name for path in folder.iterdir() if path.is_dir()]


def file_status(path: AnyPath) -> os.stat_result | Status | None:
    """Returns the status of a file; None if the file does not exist."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def file_statuses(folder: AnyPath, names: Sequence[str]) -> Iterator[os.stat_result | Status | None]:
    """Yields the status of each file, or None if it does not exist; lists an object store only once."""
    if isinstance(folder, RemotePath):
        return map(folder.walk().get, names)
    return (file_status(folder / name) for name in names)


def lexists(path: AnyPath) -> bool:
    """Returns whether there is a file or a link, even a broken one."""
    return path.exists() if isinstance(path, RemotePath) else os.path.lexists(path)


def glob_files(pattern: str) -> list[AnyPath]:
    """Returns the files that match a shell pattern, sorted by path."""
    if "://" not in pattern:
        return [Path(name) for name in sorted(glob.glob(pattern))]
    scheme, _, names = pattern.partition("://")
    parts = names.split("/")
    plain = next((number for number, part in enumerate(parts) if re.search(r"[*?[]", part)), len(parts))
    if not 0 < plain < len(parts):
        return []
    return sorted(RemotePath(f"{scheme}://{'/'.join(parts[:plain])}").glob("/".join(parts[plain:])))


def read_range(path: AnyPath, start: int, size: int) -> bytes:
    """Reads `size` bytes of a file from byte `start` on; fewer if the file ends earlier."""
    if isinstance(path, RemotePath):
        return path.read_range(start, start + size)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def remove_tree(folder: AnyPath) -> None:
    """Deletes a folder with its contents, and this machine's copies of its files."""
    if isinstance(folder, RemotePath):
        if (copies := _copies(folder)).exists():
            shutil.rmtree(copies)
        folder.remove_tree()
    else:
        with suppress(FileNotFoundError):  # another process that found the job finished may delete it too
            shutil.rmtree(folder)


def local_copy(path: AnyPath) -> Path:
    """Returns a local path as it is; for a remote file, which must never change, the path of this machine's copy.

    The first process that needs the copy creates it. It stays until `remove_tree` deletes the file's folder on this
    machine.

    Raises:
      PrepError: another user owns the folder of the copies.
    """
    if not isinstance(path, RemotePath):
        return path
    copies = _copies(path.parent)
    copy = copies / path.name
    if not copy.exists():
        copies.mkdir(exist_ok=True)
        with file_lock(copies / "lock", wait=True):
            if not copy.exists():
                unfinished = copies / f"{path.name}.tmp"
                path.get(unfinished)
                unfinished.replace(copy)
    return copy


def private_folder() -> Path:
    """Returns this user's folder of temporary files on this machine, to which no other user can write.

    Raises:
      PrepError: another user owns the folder.
    """
    folder = Path(tempfile.gettempdir()) / f"data_prep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PrepError(f"{folder} belongs to another user; set $TMPDIR to another folder")
    return folder


def _copies(folder: RemotePath) -> Path:
    return private_folder() / hashlib.sha256(folder.url.encode()).hexdigest()[:16]

"""Atomic writes: whenever the process is killed, a file is either complete or as it was before."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_prep.storage.paths import AnyPath
from data_prep.storage.remote import RemotePath


@contextmanager
def atomic_write(path: AnyPath, scratch: AnyPath | None = None) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` on exit, complete and flushed to disk.

    If the body raises, `path` stays unchanged.

    Args:
      path: the file to write. In an object store, the object appears when its upload has finished.
      scratch: folder for the temporary file, on the file system of `path`; by default the folder of `path`. Ignored for
        an object store, whose temporary file is on this machine.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="data_prep-") as folder:
            temporary = Path(folder) / path.name
            with temporary.open("wb") as file:
                yield file
            path.put(temporary)
        return
    temporary = _temporary(path, scratch)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def atomic_write_text(path: AnyPath, text: str) -> None:
    """Writes a UTF-8 text file atomically, see `atomic_write`."""
    with atomic_write(path) as out:
        out.write(text.encode())


@contextmanager
def atomic_folder(folder: AnyPath, scratch: AnyPath | None = None) -> Iterator[Path]:
    """Provides an empty local folder; on exit, its files move to `folder`, each complete and flushed to disk.

    Other files in `folder` stay. If `folder` does not exist, it appears with all its files at once.

    Args:
      folder: destination of the files.
      scratch: as for `atomic_write`.
    """
    if isinstance(folder, RemotePath):
        with tempfile.TemporaryDirectory(prefix="data_prep-") as written:
            yield Path(written)
            for file in Path(written).iterdir():
                (folder / file.name).put(file)
        return
    temporary = _temporary(folder, scratch)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if folder.is_dir():
            for file in temporary.iterdir():
                file.replace(folder / file.name)
            sync_folder(folder)
        else:
            temporary.replace(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """Checks before long work that its result can be written to a local folder, which need not exist yet.

    Raises:
      OSError: the folder cannot be created, or no files in it.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error.strerror}; give another --output") from error


def remove_unfinished(folder: AnyPath, pattern: str = "*") -> None:
    """Deletes what killed processes left unfinished in a folder: temporary files and folders of this module.

    Args:
      folder: the folder; no other process may be writing to it.
      pattern: only those of files whose names match, as in `Path.glob`.
    """
    if isinstance(folder, RemotePath):
        return  # an object store shows complete objects only
    for path in folder.glob(f"{pattern}.{'[0-9a-f]' * 32}.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Flushes a local folder's list of names to disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path, scratch: Path | None) -> Path:
    """Returns a unique temporary path. Process ids would not be unique among machines that share a folder."""
    return (path.parent if scratch is None else scratch) / f"{path.name}.{uuid.uuid4().hex}.tmp"

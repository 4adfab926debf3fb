"""Files and folders written atomically: a path is either absent or complete."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_prep.storage.paths import AnyPath
from data_prep.storage.remote import RemotePath


@contextmanager
def atomic_write(path: AnyPath, scratch: AnyPath) -> Iterator[BinaryIO]:
    """Opens a temporary file; on leaving, it has taken the place of `path`, whole, and is on disk.

    If the body raises, `path` is as it was. The temporary file is in `scratch`, which must be on the file system of
    `path`; or of this machine, where `path` is in an object store: there it appears when the upload has ended, or not.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="data_prep-") as folder:
            temporary = Path(folder) / path.name
            with temporary.open("wb") as file:
                yield file
            path.put(temporary)
        return
    temporary = scratch / f"{path.name}.{uuid.uuid4().hex}.tmp"  # process numbers repeat between machines
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


@contextmanager
def atomic_folder(folder: AnyPath, scratch: AnyPath) -> Iterator[Path]:
    """Gives an empty local folder; on leaving, its files have moved to `folder`, whole, as `atomic_write` would do."""
    if isinstance(folder, RemotePath):
        with tempfile.TemporaryDirectory(prefix="data_prep-") as written:
            yield Path(written)
            for file in Path(written).iterdir():
                (folder / file.name).put(file)
        return
    written = scratch / "tfds"
    written.mkdir(exist_ok=True)
    yield written
    for file in written.iterdir():
        file.replace(folder / file.name)
    written.rmdir()
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Puts a local folder's list of names on disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

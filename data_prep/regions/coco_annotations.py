"""A COCO-style annotation file, parsed once and then queried by image from any process.

COCO's parsed annotations take gigabytes, and every worker would need all of them to find those of one image. They are
therefore written once to an SQLite file with one row per image, so that a worker does not hold them in memory.
"""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError, one_line
from data_prep.images import BadImage
from data_prep.sources.source import input_file
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath, local_copy

SUFFIX = ".sqlite"
_IMAGE_KEYS = ("id", "file_name", "height", "width")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The annotations of each image of one file.

    Attributes:
      name: the annotation file's name.
      database: the SQLite file that `index` wrote.
    """

    name: str
    database: AnyPath

    def find(self, image_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Returns the entry of an image, and its annotations in the file's order.

        An image is found by its path, or else by its base name, as a whole path or as the only path that ends with it.

        Raises:
          BadImage: the image is not listed, or more than one entry matches.
        """
        path, base = _bytes(image_id), _bytes(PurePosixPath(image_id).name)
        # A connection must not be shared with other threads nor with processes that are forked later.
        address = local_copy(self.database).absolute().as_uri() + "?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            for column, value in (("path", path), ("path", base), ("base", base)):
                query = f"SELECT entry, annotations FROM images WHERE {column} = ? LIMIT 2"
                rows = connection.execute(query, (value,)).fetchall()
                if len(rows) > 1:
                    raise BadImage(f"listed more than once in {self.name}")
                if rows:
                    return json.loads(rows[0][0]), json.loads(rows[0][1])
        raise BadImage(f"not listed in {self.name}")


def inputs(path: AnyPath) -> Iterator[Input]:
    """Yields the annotation file.

    Raises:
      PrepError: the file is missing.
    """
    if not path.is_file():
        raise PrepError(f"{path} is missing; give a COCO-style annotation file")
    return iter((input_file(path, path.name),))


def index(path: AnyPath, scratch: AnyPath, keys: Sequence[str]) -> Annotations:
    """Parses an annotation file and writes it as an SQLite file, unless an earlier run did so.

    Annotations of images that the file does not list are skipped.

    Args:
      path: the annotation file.
      scratch: the folder for the SQLite file.
      keys: the keys of an annotation to store; its other keys are omitted.

    Raises:
      PrepError: the file is missing, is not JSON or not COCO-shaped, or the SQLite file cannot be written.
    """
    (seen,) = inputs(path)
    identity = json.dumps([str(path.absolute()), seen.size, seen.modified, keys])
    database = scratch / f"annotations-{hashlib.sha256(identity.encode()).hexdigest()[:16]}{SUFFIX}"
    if not database.exists():
        rows = _rows(path, keys)
        try:
            with atomic_write(database, scratch) as out:
                _write(Path(out.name), rows)
        except sqlite3.Error as error:
            raise PrepError(f"{database} cannot be written: {error}") from error
    return Annotations(path.name, database)


def _write(database: Path, rows: Iterator[tuple[bytes, bytes, str, str]]) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # needs no rollback: `atomic_write` publishes a complete file
        connection.execute("CREATE TABLE images (path BLOB, base BLOB, entry TEXT, annotations TEXT)")
        connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
        connection.execute("CREATE INDEX by_path ON images (path)")
        connection.execute("CREATE INDEX by_base ON images (base)")
        connection.commit()


def _rows(path: AnyPath, keys: Sequence[str]) -> Iterator[tuple[bytes, bytes, str, str]]:
    """Returns a row for each image, after checking the whole file."""
    try:
        parsed = json.loads(path.read_bytes())
    except OSError as error:
        raise PrepError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PrepError(f"{path} is not JSON: {one_line(error)}; give a COCO-style annotation file") from error
    images = _entries(path, parsed, "images", _IMAGE_KEYS)
    of_image: dict[int | str, list[dict[str, Any]]] = {}
    for number, image in enumerate(images):
        if not isinstance(image["id"], int | str) or image["id"] in of_image:
            raise PrepError(f"{path} is not COCO-shaped: images[{number}] has no unique 'id'")
        if not isinstance(image["file_name"], str):
            raise PrepError(f"{path} is not COCO-shaped: 'file_name' of images[{number}] is not text")
        of_image[image["id"]] = []
    for number, annotation in enumerate(_entries(path, parsed, "annotations", ("image_id", *keys))):
        if not isinstance(annotation["image_id"], int | str):
            raise PrepError(f"{path} is not COCO-shaped: 'image_id' of annotations[{number}] is not an id")
        if annotation["image_id"] in of_image:
            of_image[annotation["image_id"]].append({key: annotation[key] for key in keys})
    return (
        (
            _bytes(image["file_name"]),
            _bytes(PurePosixPath(image["file_name"]).name),
            json.dumps({key: image[key] for key in _IMAGE_KEYS}),
            json.dumps(of_image[image["id"]]),
        )
        for image in images
    )


def _entries(path: AnyPath, parsed: Any, name: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    entries = parsed.get(name) if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise PrepError(f"{path} is not COCO-shaped: it has no list {name!r}")
    for number, entry in enumerate(entries):
        for key in keys:
            if not isinstance(entry, dict) or key not in entry:
                raise PrepError(f"{path} is not COCO-shaped: {name}[{number}] has no {key!r}")
    return entries


def _bytes(name: str) -> bytes:
    """Returns a key for any text, including text that is not valid Unicode."""
    return name.encode("utf-8", "surrogatepass")

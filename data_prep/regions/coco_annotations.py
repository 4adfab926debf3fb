"""A COCO-style annotation file, parsed once and then queried by image from any process.

COCO's parsed annotations take gigabytes, and every worker would need all of them to find those of one image. They are
therefore written once to an SQLite file with one row per image, so that a worker does not hold them in memory.
"""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep import coco_json
from data_prep.dataset.inputs import Input
from data_prep.errors import PrepError
from data_prep.images import BadImage
from data_prep.sources.source import input_file
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath, local_copy

SUFFIX = ".sqlite"
FORMAT = 2  # of the SQLite file, which unfinished jobs of earlier versions may have left
_IMAGE_KEYS = ("height", "width")


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The annotations of each image of one file.

    Attributes:
      name: the annotation file's name.
      database: the SQLite file that `index` wrote.
    """

    name: str
    database: AnyPath

    def notes(self) -> list[str]:
        """Returns lines about annotations that were skipped."""
        with self._connect() as connection:
            counts = dict(connection.execute("SELECT reason, count FROM skipped"))
        return [f"{self.name}: {count} annotations skipped: {reason}" for reason, count in counts.items()]

    def find(self, image_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Returns the entry of an image, and its annotations in the file's order.

        An image is found by its path, or else by its base name, as a whole path or as the only path that ends with it.

        Raises:
          BadImage: the image is not listed, or more than one entry matches.
        """
        path, base = _bytes(image_id), _bytes(PurePosixPath(image_id).name)
        with self._connect() as connection:
            for column, value in (("path", path), ("path", base), ("base", base)):
                query = f"SELECT entry, annotations FROM images WHERE {column} = ? LIMIT 2"
                rows = connection.execute(query, (value,)).fetchall()
                if len(rows) > 1:
                    raise BadImage(f"listed more than once in {self.name}")
                if rows:
                    return json.loads(rows[0][0]), json.loads(rows[0][1])
        raise BadImage(f"not listed in {self.name}")

    def _connect(self) -> contextlib.closing[sqlite3.Connection]:
        """Opens the database; a connection must not be shared with threads nor with processes forked later."""
        address = local_copy(self.database).absolute().as_uri() + "?mode=ro&immutable=1"
        return contextlib.closing(sqlite3.connect(address, uri=True))


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

    Annotations that lack a key, or whose image the file does not list, are skipped and counted. The ids 1 and "1" are
    equal.

    Args:
      path: the annotation file.
      scratch: the folder for the SQLite file.
      keys: the keys of an annotation to store; its other keys are omitted.

    Raises:
      PrepError: the file is missing, is not JSON or not COCO-shaped, no annotation can be used, or the SQLite file
        cannot be written.
    """
    (seen,) = inputs(path)
    identity = json.dumps([str(path.absolute()), seen.size, seen.modified, keys, FORMAT])
    database = scratch / f"annotations-{hashlib.sha256(identity.encode()).hexdigest()[:16]}{SUFFIX}"
    if not database.exists():
        rows, skipped = _rows(path, keys)
        try:
            with atomic_write(database, scratch) as out:
                _write(Path(out.name), rows, skipped)
        except sqlite3.Error as error:
            raise PrepError(f"{database} cannot be written: {error}") from error
    return Annotations(path.name, database)


def _write(database: Path, rows: Iterator[tuple[bytes, bytes, str, str]], skipped: dict[str, int]) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # needs no rollback: `atomic_write` publishes a complete file
        connection.execute("CREATE TABLE images (path BLOB, base BLOB, entry TEXT, annotations TEXT)")
        connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
        connection.execute("CREATE TABLE skipped (reason TEXT, count INTEGER)")
        connection.executemany("INSERT INTO skipped VALUES (?, ?)", skipped.items())
        connection.execute("CREATE INDEX by_path ON images (path)")
        connection.execute("CREATE INDEX by_base ON images (base)")
        connection.commit()


def _rows(path: AnyPath, keys: Sequence[str]) -> tuple[Iterator[tuple[bytes, bytes, str, str]], dict[str, int]]:
    """Returns a row for each image, and the number of skipped annotations by reason, after checking the whole file."""
    parsed = coco_json.parse(path)
    images = coco_json.entries(path, parsed, "images", ("id", *_IMAGE_KEYS))
    paths = [coco_json.image_path(image) for image in images]
    of_image: dict[str, list[dict[str, Any]]] = {}
    for number, image in enumerate(images):
        image_id = coco_json.comparable_id(image["id"])
        if image_id is None or image_id in of_image:
            raise PrepError(f"{path} is not COCO-shaped: images[{number}] has no unique 'id'")
        if paths[number] is None:
            raise PrepError(f"{path} is not COCO-shaped: images[{number}] has no 'file_name' that is text")
        of_image[image_id] = []
    annotations = coco_json.entries(path, parsed, "annotations", ("image_id",))
    skipped = Counter()
    for number, annotation in enumerate(annotations):
        image_id = coco_json.comparable_id(annotation["image_id"])
        if image_id is None:
            raise PrepError(f"{path} is not COCO-shaped: 'image_id' of annotations[{number}] is not an id")
        lacking = next((key for key in keys if annotation.get(key) is None), None)
        if image_id not in of_image:
            skipped["their image_id is not among the images"] += 1
        elif lacking is not None:
            skipped[f"they have no {lacking}"] += 1
        else:
            of_image[image_id].append({key: annotation[key] for key in keys})
    if annotations and sum(skipped.values()) == len(annotations):
        reasons = ", ".join(f"{count} because {reason}" for reason, count in skipped.items())
        raise PrepError(f"{path}: none of the {len(annotations)} annotations can be used: {reasons}")
    rows = (
        (
            _bytes(image_file),
            _bytes(PurePosixPath(image_file).name),
            json.dumps({key: image[key] for key in _IMAGE_KEYS}),
            json.dumps(of_image[coco_json.comparable_id(image["id"])]),
        )
        for image, image_file in zip(images, paths, strict=True)
    )
    return rows, skipped


def _bytes(name: str) -> bytes:
    """Returns a key for any text, including text that is not valid Unicode."""
    return name.encode("utf-8", "surrogatepass")

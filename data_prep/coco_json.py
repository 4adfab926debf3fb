"""JSON files in COCO's style: lists of images and of annotations, which refer to images by id."""

import codecs
import json
from typing import Any

from data_prep.errors import PrepError, one_line
from data_prep.storage.paths import AnyPath


def parse(path: AnyPath) -> Any:
    """Parses a JSON file.

    Raises:
      PrepError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise PrepError(f"{path} cannot be read: {error.strerror}; give a COCO annotation file") from error
    except (ValueError, RecursionError) as error:
        raise PrepError(f"{path} is not JSON: {one_line(error)}; give a COCO-style annotation file") from error


def entries(path: AnyPath, parsed: Any, name: str, keys: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Returns a list of a parsed file, such as "images", whose entries have certain keys.

    Raises:
      PrepError: there is no such list, or an entry lacks a key.
    """
    entries = parsed.get(name) if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise PrepError(f"{path} is not COCO-shaped: it has no list {name!r}")
    for number, entry in enumerate(entries):
        for key in keys:
            if not isinstance(entry, dict) or key not in entry:
                raise PrepError(f"{path} is not COCO-shaped: {name}[{number}] has no {key!r}")
    return entries


def image_path(entry: Any) -> str | None:
    """Returns the path of an image, with forward slashes, from its entry in an annotation file; None if it has none.

    LVIS v1 has a URL instead of a name, whose last part is the name. Cityscapes' panoptic files insert "_gtFine".
    """
    if not isinstance(entry, dict):
        return None
    name, url = entry.get("file_name"), entry.get("coco_url")
    if isinstance(name, str):
        return name.replace("\\", "/").replace("_gtFine_leftImg8bit", "_leftImg8bit")
    return url.rpartition("/")[2] if name is None and isinstance(url, str) else None


def comparable_id(value: Any) -> str | None:
    """Returns the same text for an id that is a number and for one that is text; None if the value is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value)

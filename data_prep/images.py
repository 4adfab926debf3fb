"""Image files: how they are found, and how each becomes the JPEG bytes and pixels of a record.

Pixels are always those that training decodes from the stored bytes, see `data_prep.dataset.records.decode_image`.
"""

import importlib.util
import io
import re
import warnings
from collections import Counter
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image

from data_prep.dataset import records
from data_prep.errors import one_line
from data_prep.storage.paths import AnyPath, walk_files

_PLAIN = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")
_OPTIONAL = (".avif", ".jp2", ".heic", ".heif")  # only some builds of Pillow read them, or pillow-heif does
if importlib.util.find_spec("pillow_heif"):
    importlib.import_module("pillow_heif").register_heif_opener()
SUFFIXES = frozenset(_PLAIN) | {suffix for suffix in _OPTIONAL if suffix in Image.registered_extensions()}
QUALITY = 95
MOST_EXTRA = 16  # bytes before a JPEG's end marker that are ignored, whatever they are
LONGEST_SIDE = 65_500  # libjpeg's limit

_TURN_UPRIGHT = {  # by EXIF Orientation value; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURN_MAPS = {  # the same transforms for arrays (maps, height, width)
    Image.Transpose.FLIP_LEFT_RIGHT: lambda maps: maps[:, :, ::-1],
    Image.Transpose.ROTATE_180: lambda maps: maps[:, ::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda maps: maps[:, ::-1],
    Image.Transpose.TRANSPOSE: lambda maps: maps.transpose(0, 2, 1),
    Image.Transpose.ROTATE_270: lambda maps: np.rot90(maps, -1, (1, 2)),
    Image.Transpose.TRANSVERSE: lambda maps: maps[:, ::-1, ::-1].transpose(0, 2, 1),
    Image.Transpose.ROTATE_90: lambda maps: np.rot90(maps, 1, (1, 2)),
}


class BadImage(ValueError):
    """An image file that cannot become a record; the message is the reason."""


class ImageFiles(NamedTuple):
    """The files below a folder.

    Attributes:
      names: the image files: sorted paths relative to the folder, with forward slashes.
      others: the number of other files, by what they are: their suffix, "without suffix", or "hidden".
    """

    names: tuple[str, ...]
    others: dict[str, int]


def find(folder: AnyPath) -> ImageFiles:
    """Finds the image files below a folder by suffix. Links are followed.

    Files and folders whose names begin with a dot are hidden: copies of metadata by macOS, thumbnails, checkpoints of
    notebooks.
    """
    names, others = [], Counter()
    for name in walk_files(folder):
        suffix = PurePosixPath(name).suffix.lower()
        if any(part.startswith(".") for part in name.split("/")):
            others["hidden"] += 1
        elif suffix in SUFFIXES:
            names.append(name)
        else:
            others[suffix or "without suffix"] += 1
    return ImageFiles(tuple(sorted(names)), dict(sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))))


def load(data: bytes, max_pixels: int) -> tuple[bytes, UInt8[np.ndarray, "height width 3"]]:
    """Converts the bytes of an image file to a record's JPEG bytes and its pixels.

    The format is detected from the content. An upright JPEG with 8-bit RGB or gray pixels is stored unchanged, except
    for oddities that every viewer ignores: they are removed. Everything else that Pillow reads is encoded as a JPEG of
    quality 95: the first frame of an animation, turned upright by its EXIF orientation, transparency composited on
    white, 16-bit gray scaled to 8 bits. Colour profiles are not applied.

    Args:
      data: the file's content.
      max_pixels: largest number of pixels of an image; larger images are refused before they are decoded.

    Raises:
      BadImage: the bytes are not an image or are truncated or corrupt, or the image is too large or of a kind whose
        brightness range is unknown (floating-point or 32-bit integer pixels).
    """
    if not data:
        raise BadImage("empty file")
    with warnings.catch_warnings():
        # Pillow's warnings (size, unusual metadata) concern what is checked below or does not affect the pixels.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                jpeg = _jpeg(data, image, max_pixels)
        except BadImage:
            raise
        except Image.UnidentifiedImageError as error:
            raise BadImage("not an image, or of an unknown format") from error
        except Image.DecompressionBombError as error:
            raise BadImage(f"more than {max_pixels} pixels") from error
        except Exception as error:  # on corrupt bytes, Pillow's decoders raise almost any exception
            raise BadImage(f"truncated or corrupt: {one_line(error)}") from error
    while True:
        try:
            return jpeg, records.decode_image(jpeg)
        except ValueError as error:
            repaired = _repair(jpeg, str(error))
            if repaired is None:
                raise BadImage(f"truncated or corrupt: {one_line(error)}") from error
            jpeg = repaired


def _repair(jpeg: bytes, warning: str) -> bytes | None:
    """Returns a JPEG without the oddity that libjpeg warns of, or None if pixels may be lost or nothing is changed."""
    if "unknown JFIF revision" in warning:
        at = jpeg.index(b"JFIF\0") + len(b"JFIF\0")
        repaired = jpeg[:at] + b"\x01\x02" + jpeg[at + 2 :]
    elif extra := re.search(r"(\d+) extraneous bytes before marker 0xd9", warning):
        end = jpeg.rindex(b"\xff\xd9")
        start = end - int(extra[1])
        # More bytes of different values may be the rest of a damaged image.
        padding = end - start <= MOST_EXTRA or len(set(jpeg[start:end])) == 1
        repaired = jpeg[:start] + jpeg[end:] if padding else jpeg
    elif re.search("Invalid SOS parameters|Unknown Adobe color transform", warning):
        with Image.open(io.BytesIO(jpeg)) as image:
            repaired = _encode(image.convert("RGB"))
    else:
        return None
    return repaired if repaired != jpeg else None


def turn_upright(maps: UInt16[np.ndarray, "maps height width"], data: bytes) -> UInt16[np.ndarray, "maps h w"]:
    """Turns label maps drawn on an image file's stored pixels upright, as `load` turns the image."""
    with Image.open(io.BytesIO(data)) as image:
        turn = _TURN_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return maps if turn is None else _TURN_MAPS[turn](maps)


def _jpeg(data: bytes, image: Image.Image, max_pixels: int) -> bytes:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} is more than {max_pixels} pixels")
    turn = _TURN_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    # MPO is Pillow's name for a camera's JPEG with further pictures after the first.
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and turn is None:
        return data
    if max(width, height) > LONGEST_SIDE:
        raise BadImage(f"{width}x{height}: a JPEG has at most {LONGEST_SIDE} pixels a side")
    plain = _rgb_or_gray(image)
    if turn is not None:
        plain = plain.transpose(turn)
    return _encode(plain)


def _encode(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()


def _rgb_or_gray(image: Image.Image) -> Image.Image:
    """Decodes to mode RGB or L."""
    # Pillow decodes portable graymaps of more than 8 bits to mode I, scaled to 16 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise BadImage(f"{kind} pixels: the values of black and white are unknown")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")

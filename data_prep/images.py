"""Image files: how they are found, and how each becomes the JPEG bytes and pixels of a record.

Pixels are always those that training decodes from the stored bytes, see `data_prep.dataset.records.decode_image`.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image

from data_prep.dataset import records
from data_prep.errors import one_line
from data_prep.storage.paths import AnyPath, walk_files

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"))
QUALITY = 95
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


def find(folder: AnyPath) -> list[str]:
    """Finds the image files below a folder by suffix: sorted paths relative to it, with forward slashes.

    Links to files are included; links to folders are not followed.
    """
    return sorted(name for name in walk_files(folder) if Path(name).suffix.lower() in SUFFIXES)


def load(data: bytes, max_pixels: int) -> tuple[bytes, UInt8[np.ndarray, "height width 3"]]:
    """Converts the bytes of an image file to a record's JPEG bytes and its pixels.

    The format is detected from the content. An upright JPEG with 8-bit RGB or gray pixels is stored unchanged.
    Everything else that Pillow reads is encoded as a JPEG of quality 95: the first frame of an animation, turned
    upright by its EXIF orientation, transparency composited on white, 16-bit gray scaled to 8 bits. Colour profiles
    are not applied.

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
    try:
        return jpeg, records.decode_image(jpeg)
    except ValueError as error:
        raise BadImage(f"truncated or corrupt: {one_line(error)}") from error


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
    encoded = io.BytesIO()
    plain.save(encoded, "JPEG", quality=QUALITY)
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

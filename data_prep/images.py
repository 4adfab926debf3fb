"""Image files: which are taken, and the JPEG bytes and pixels that each gives.

Pixels are always those that training will decode from the stored bytes, see `data_prep.dataset.records.decode_image`.
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

_TURN_UPRIGHT = {  # by the value of EXIF's Orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURN_MAPS = {  # the same for arrays (maps, height, width)
    Image.Transpose.FLIP_LEFT_RIGHT: lambda maps: maps[:, :, ::-1],
    Image.Transpose.ROTATE_180: lambda maps: maps[:, ::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda maps: maps[:, ::-1],
    Image.Transpose.TRANSPOSE: lambda maps: maps.transpose(0, 2, 1),
    Image.Transpose.ROTATE_270: lambda maps: np.rot90(maps, -1, (1, 2)),
    Image.Transpose.TRANSVERSE: lambda maps: maps[:, ::-1, ::-1].transpose(0, 2, 1),
    Image.Transpose.ROTATE_90: lambda maps: np.rot90(maps, 1, (1, 2)),
}


class BadImage(ValueError):
    """A file that gives no record; the message is the reason."""


def find(folder: AnyPath) -> list[str]:
    """Image files below a folder, by suffix: paths relative to it with forward slashes, sorted.

    Links to files are taken, links to folders are not followed.
    """
    return sorted(name for name in walk_files(folder) if Path(name).suffix.lower() in SUFFIXES)


def load(data: bytes, max_pixels: int) -> tuple[bytes, UInt8[np.ndarray, "height width 3"]]:
    """Turns the bytes of an image file into a record's JPEG and its pixels.

    The format is found from the content. A JPEG with 8-bit RGB or gray pixels that needs no turning keeps its bytes.
    Everything else that Pillow reads is encoded as JPEG of quality 95: the first frame of an animation, turned
    upright by its EXIF orientation, transparency laid on white, 16-bit gray scaled to 8 bits. Colour profiles are
    not applied.

    Args:
      data: content of the file.
      max_pixels: the most pixels that an image may have; larger ones are refused before they are decoded.

    Raises:
      BadImage: the bytes are no image, are cut short or damaged, or the image is too large or of a kind whose
        brightness is not known (floating-point or 32-bit integer pixels).
    """
    if not data:
        raise BadImage("empty file")
    with warnings.catch_warnings():
        # What Pillow warns of (size, odd metadata) is either checked below or of no consequence to the pixels.
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
        except Exception as error:  # on damaged bytes, Pillow's decoders raise nearly anything
            raise BadImage(f"damaged or cut short: {one_line(error)}") from error
    try:
        return jpeg, records.decode_image(jpeg)
    except ValueError as error:
        raise BadImage(f"damaged or cut short: {one_line(error)}") from error


def turn_upright(maps: UInt16[np.ndarray, "maps height width"], data: bytes) -> UInt16[np.ndarray, "maps h w"]:
    """Turns label maps that were drawn on an image file's stored pixels as `load` turns the image."""
    with Image.open(io.BytesIO(data)) as image:
        turn = _TURN_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    return maps if turn is None else _TURN_MAPS[turn](maps)


def _jpeg(data: bytes, image: Image.Image, max_pixels: int) -> bytes:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} is more than {max_pixels} pixels")
    turn = _TURN_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    # MPO is what Pillow calls a camera's JPEG with further pictures behind the first.
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and turn is None:
        return data
    if max(width, height) > LONGEST_SIDE:
        raise BadImage(f"{width}x{height}: a JPEG holds {LONGEST_SIDE} pixels a side at most")
    plain = _rgb_or_gray(image)
    if turn is not None:
        plain = plain.transpose(turn)
    encoded = io.BytesIO()
    plain.save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()


def _rgb_or_gray(image: Image.Image) -> Image.Image:
    """Decodes to mode RGB or L."""
    # Portable graymaps of more than 8 bits come scaled to 16, in mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("F", "I"):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise BadImage(f"{kind} pixels, whose black and white are not known")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")

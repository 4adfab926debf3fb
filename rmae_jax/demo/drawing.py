"""The page's pictures: RGB arrays, larger than the model's images so that outlines are fine."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from rmae_jax.completion import GRAY
from rmae_jax.demo.segmenter import Click

SMALLEST = 480  # side of a picture, in pixels
FRAME = 4  # width of the frame of marked patches, in pixels
BLUE, GREEN = (40, 150, 255), (0, 200, 130)  # of the completed region; of the region found by colour
ORANGE = (235, 110, 0)  # of patches marked as outside


def photograph(image: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """Resizes the photograph to the size of the pictures."""
    side = _side(image)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def seen(
    image: UInt8[np.ndarray, "size size 3"],
    hidden: Bool[np.ndarray, "size size"],
    clicks: Sequence[Click],
    patch_size: int,
) -> UInt8[np.ndarray, "side side 3"]:
    """Draws the photograph with gray in place of hidden patches, and frames around the marked ones."""
    scale = _side(image) // len(image)
    hidden = hidden.repeat(scale, axis=0).repeat(scale, axis=1)
    picture = np.where(hidden[..., None], np.uint8(255 * GRAY), photograph(image))
    for click in clicks:
        row, column = divmod(click.patch, len(image) // patch_size)
        rows, columns = (slice(place * patch_size * scale, (place + 1) * patch_size * scale) for place in (row, column))
        patch = picture[rows, columns]
        within = patch[FRAME:-FRAME, FRAME:-FRAME].copy()
        patch[:] = BLUE if click.inside else ORANGE
        patch[FRAME:-FRAME, FRAME:-FRAME] = within
    return picture


def region(
    image: UInt8[np.ndarray, "size size 3"], probability: Float[np.ndarray, "size size"], colour: tuple[int, int, int]
) -> UInt8[np.ndarray, "side side 3"]:
    """Draws a region over the faded photograph: colour as strong as its probability, and an outline at 0.5."""
    side = _side(image)
    values = Image.fromarray(probability.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(values)
    picture = faded(image).astype(np.float32)
    alpha = 0.65 * values[..., None]
    picture = picture * (1 - alpha) + np.array(colour, np.float32) * alpha
    inside = values > 0.5
    # A white line inside a dark one is visible on any background.
    edge = ndimage.binary_dilation(inside) ^ ndimage.binary_erosion(inside, border_value=1)
    picture[ndimage.binary_dilation(edge, iterations=2)] = 20
    picture[ndimage.binary_dilation(edge)] = 255
    return picture.round().astype(np.uint8)


def faded(image: UInt8[np.ndarray, "size size 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """Draws the photograph with most of its colour removed."""
    picture = photograph(image).astype(np.float32)
    return (0.85 * picture.mean(axis=-1, keepdims=True) + 0.15 * picture).round().astype(np.uint8)


def data_uri(picture: UInt8[np.ndarray, "side side 3"]) -> str:
    """Encodes a picture as a data URI: a JPEG without chroma subsampling, which would blur the lines."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _side(image: np.ndarray) -> int:
    """Returns the smallest multiple of the image's side that is at least SMALLEST."""
    return len(image) * math.ceil(SMALLEST / len(image))

"""Photographs in every EXIF orientation, and the masks that label maps hold."""

import io

import numpy as np
from PIL import Image

from data_prep import images
from data_prep.sources.source import Item

# What the stored array has to go through to stand upright, by EXIF's definition of each value.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


def photograph(height, width, orientation=1):
    """Bytes of a JPEG whose stored pixels have this size, and its upright pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(file, "JPEG", exif=exif)
    return file.getvalue(), images.load(file.getvalue(), 1 << 26)[1]


def item(image_id="a.jpg", beside=None):
    """An image that nobody reads."""
    return Item(image_id, read=lambda: b"", beside=beside)


def run_lengths(mask):
    """COCO's uncompressed form, from its definition: how many pixels are 0, 1, 0, ... down the columns."""
    counts, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def masks(maps):
    """The regions of label maps as binary masks, in order; labels without a pixel give an empty one."""
    assert maps.dtype == np.uint16 and maps.ndim == 3
    return [labels == number for labels in maps for number in range(1, labels.max(initial=0) + 1)]


def assert_same_masks(found, expected):
    """The same binary masks, each as often, in any order."""
    assert all(mask.any() for mask in found)
    key = np.ndarray.tobytes
    assert sorted(map(key, map(np.ascontiguousarray, found))) == sorted(map(key, map(np.ascontiguousarray, expected)))

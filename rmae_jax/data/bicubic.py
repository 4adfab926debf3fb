"""Crop, antialiased bicubic resize and flip of an image in one pass over the crop's pixels, bit-equal to Pillow.

The arithmetic is that of Pillow's Resample.c: weights are computed in double precision, normalised and rounded to fixed
point; the horizontal pass comes first; each pass is rounded and clipped to 8 bits. All releases of Pillow up to 12 do
this. Pillow 13 runs the vertical pass first if the height shrinks much more than the width, which changes some pixels
by rounding. This code always uses the same order, so that pixels do not depend on Pillow's release.
"""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import UInt8

from data_prep.numba_cache import njit
from rmae_jax.data.crops import Crop

_FRACTION_BITS = 32 - 8 - 2  # 8 bits for the result, 2 for overshoot and sign
_HALF = 1 << (_FRACTION_BITS - 1)
# Number of rows that the horizontal pass processes together. It works on a transposed block, so that the innermost loop
# runs over contiguous bytes of one column and compiles to vector instructions: 4 x faster than pixel by pixel.
# `_transpose` is written for this number.
_ROWS = 32


def resize_bicubic(
    image: UInt8[np.ndarray, "image_height image_width 3"], crop: Crop, height: int, width: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Crops an image, resizes it to (height, width) and flips it if `crop.flip`.

    Before the flip, the result is bit-identical to `image.crop(box).resize((width, height), Image.BICUBIC)` of Pillow
    12. Pixels outside the crop do not influence the result.

    Raises:
      ValueError: the crop is empty or reaches beyond the image.
    """
    crop.check(*image.shape[:2])
    out = np.empty((height, width, 3), np.uint8)
    _resize(np.ascontiguousarray(image), crop.top, crop.left, crop.height, crop.width, crop.flip, out)
    return out


# no_type_check: Numba cannot compile through the wrapper of a run-time type checker.
@njit()
@no_type_check
def _resize(image, top, left, height, width, flip, out):
    """Runs both passes; `rows` holds the crop's rows at the new width."""
    out_height, out_width, _ = out.shape
    first, count, weights = _taps(width, out_width, flip)
    rows = np.empty((height, out_width * 3), np.uint8)
    _resize_rows(image, top, left, width, first, count, weights, rows)
    first, count, weights = _taps(height, out_height, False)
    _resize_columns(rows, first, count, weights, out.reshape(out_height, out_width * 3))


@njit()
@no_type_check
def _taps(size, out_size, flip):
    """Returns each output pixel's first input pixel, number of input pixels, and their fixed-point weights."""
    scale = size / out_size
    stretch = max(scale, 1.0)  # downscaling widens the kernel: antialiasing
    support = 2.0 * stretch
    first = np.empty(out_size, np.int64)
    count = np.empty(out_size, np.int64)
    weights = np.zeros((out_size, math.ceil(support) * 2 + 1), np.int32)
    row = np.empty(weights.shape[1])
    for i in range(out_size):
        center = (i + 0.5) * scale
        low = max(int(center - support + 0.5), 0)
        high = min(int(center + support + 0.5), size)
        total = 0.0
        for j in range(high - low):
            row[j] = _cubic((j + low - center + 0.5) * (1.0 / stretch))
            total += row[j]
        to = out_size - 1 - i if flip else i
        first[to], count[to] = low, high - low
        for j in range(high - low):
            fixed = row[j] / total * (1 << _FRACTION_BITS)
            weights[to, j] = int(fixed + 0.5) if fixed >= 0 else int(fixed - 0.5)
    return first, count, weights


@njit()
@no_type_check
def _cubic(x):
    """Evaluates Keys' cubic convolution kernel with a = -0.5."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


@njit()
@no_type_check
def _resize_rows(image, top, left, width, first, count, weights, out):
    """Runs the horizontal pass, `_ROWS` rows at a time."""
    height, out_width = out.shape[0], first.shape[0]
    quads = np.empty((_ROWS // 4, width * 3), np.uint32)
    words = np.empty((width * 3, _ROWS // 4), np.uint32)
    columns = words.view(np.uint8).reshape(width, 3 * _ROWS)
    resized = np.empty((out_width * 3, _ROWS // 4), np.uint32)
    resized_columns = resized.view(np.uint8).reshape(out_width, 3 * _ROWS)
    total = np.empty(3 * _ROWS, np.int32)
    for start in range(0, height, _ROWS):
        for quad in range(_ROWS // 4):
            _pack(image, top + start + 4 * quad, top + height - 1, left, quads[quad])
        _transpose(quads, words)
        for x in range(out_width):
            _weighted_sum(columns, first[x], count[x], weights[x], total, resized_columns[x])
        for r in range(min(_ROWS, height - start)):
            _unpack(resized[:, r // 4], np.uint32(r % 4 * 8), out[start + r])


@njit()
@no_type_check
def _pack(image, row, last, left, out):
    """Interleaves four rows, one byte of each in a word (little-endian), so that the loop compiles to vector
    instructions. Row `last` stands in for rows after it."""
    one = image[min(row, last), left:].reshape(-1)
    two = image[min(row + 1, last), left:].reshape(-1)
    three = image[min(row + 2, last), left:].reshape(-1)
    four = image[min(row + 3, last), left:].reshape(-1)
    for x in range(out.shape[0]):
        high = np.uint32(three[x]) << np.uint32(16) | np.uint32(four[x]) << np.uint32(24)
        out[x] = np.uint32(one[x]) | np.uint32(two[x]) << np.uint32(8) | high


@njit()
@no_type_check
def _transpose(quads, out):
    """Transposes eight packed quadruples of rows to columns of 32 bytes; unrolled, since a loop is 2 x slower."""
    for x in range(out.shape[0]):
        out[x, 0], out[x, 1], out[x, 2], out[x, 3] = quads[0, x], quads[1, x], quads[2, x], quads[3, x]
        out[x, 4], out[x, 5], out[x, 6], out[x, 7] = quads[4, x], quads[5, x], quads[6, x], quads[7, x]


@njit()
@no_type_check
def _unpack(words, bit, out):
    """Extracts the row whose bytes begin at bit `bit` of each word."""
    for x in range(out.shape[0]):
        out[x] = words[x] >> bit


@njit()
@no_type_check
def _resize_columns(rows, first, count, weights, out):
    """Runs the vertical pass: each output row is a weighted sum of input rows."""
    total = np.empty(rows.shape[1], np.int32)
    for y in range(out.shape[0]):
        _weighted_sum(rows, first[y], count[y], weights[y], total, out[y])


@njit(inline="always")
@no_type_check
def _weighted_sum(lines, first, count, weights, total, out):
    """Writes the weighted sum of `count` lines, rounded and clipped to 8 bits; `total` is scratch space."""
    total[:] = _HALF
    k = 0
    while k + 4 <= count:  # four lines at a time, so that the sum is loaded and stored once for all of them
        one, two, three, four = lines[first + k], lines[first + k + 1], lines[first + k + 2], lines[first + k + 3]
        w1, w2, w3, w4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for j in range(total.shape[0]):
            total[j] += w1 * np.int32(one[j]) + w2 * np.int32(two[j]) + w3 * np.int32(three[j]) + w4 * np.int32(four[j])
        k += 4
    while k < count:
        line, weight = lines[first + k], weights[k]
        for j in range(total.shape[0]):
            total[j] += weight * np.int32(line[j])
        k += 1
    for j in range(total.shape[0]):
        out[j] = min(max(total[j] >> _FRACTION_BITS, 0), 255)

"""Felzenszwalb-Huttenlocher (FH) segmentation of an image at several scales, sharing the work common to all scales.

Source: P. Felzenszwalb and D. Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004; R-MAE, section 3,
for the scales. Smoothing, edge costs and their order do not depend on the scale. Neither do the first merges: up to
the first edge that the finest scale rejects, every coarser scale merges the same components (the threshold grows
with the scale). These merges are computed once, and each scale continues from the contracted graph.
"""

from collections.abc import Sequence
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float64, UInt8, UInt16, UInt32
from scipy import ndimage

from data_prep.numba_cache import njit

MAX_REGIONS = np.iinfo(np.uint16).max
MAX_PIXELS = 1 << 29  # edges, four per pixel, are counted in 32 bits

# The radix sort maps costs in [2**-31, 2) to 24-bit keys: 5 bits of exponent and 19 of mantissa. Costs with equal keys
# are sorted afterwards.
_DIGIT_BITS = 12
_DIGITS = 1 << _DIGIT_BITS
_KEY_BASE = int(np.float64(2.0**-31).view(np.int64))
_KEY_SHIFT = 52 - 19
_LONG_RUN = 32

# The kernels are marked no_type_check because Numba cannot compile through the wrapper of a run-time type checker.


def layers(
    image: UInt8[np.ndarray, "height width 3"], scales: Sequence[int] = (500, 1000, 1500), sigma: float = 0.8
) -> UInt16[np.ndarray, "scales height width"]:
    """Computes the FH regions of an RGB image at each scale, with min_size = scale.

    Layer s is the partition that `skimage.segmentation.felzenszwalb(image, scale=s, sigma=sigma, min_size=s)`
    computes. Edges of equal cost are processed in the order right, down, down-right, up-right, each in raster order, on
    every machine. scikit-image processes them in the order of `np.argsort`, which is not stable and depends on the CPU,
    so the partitions can differ on drawings and checkerboards. On photographs they do not.

    Args:
      image: the RGB image.
      scales: FH's scale and the minimum region size, in pixels, of each layer.
      sigma: standard deviation, in pixels, of the Gaussian that smooths the image first.

    Returns:
      Labels 1..n in each layer, numbered in raster order of each region's first pixel.

    Raises:
      ValueError: the image is not uint8 RGB, is empty or too large, a scale is below 1, or a layer has more than
        65535 regions.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the image must be uint8 (height, width, 3), not {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f"the image has {width}x{height} pixels; it must have between 1 and {MAX_PIXELS}")
    if any(scale < 1 for scale in scales):
        raise ValueError(f"scales {tuple(scales)}: each must be at least 1")
    result = np.empty((len(scales), height, width), np.uint16)
    if len(scales) == 0:
        return result
    cost, edge = _sorted_edges(_smoothed(image, sigma), height, width)
    component, size, inner, first = _merge_until_rejected(cost, edge, height * width, width, min(scales) / 255)
    cost, one, other = _contract(cost[first:], edge[first:], width, component)
    for layer, scale in zip(result, scales, strict=True):
        label, count = _merge_at_scale(cost, one, other, size, inner, scale / 255, scale)
        if count > MAX_REGIONS:
            raise ValueError(f"{count} regions at scale {scale}; a uint16 label map holds {MAX_REGIONS}")
        _paint(component, label, layer.reshape(-1))
    return result


def _smoothed(image: UInt8[np.ndarray, "height width 3"], sigma: float) -> Float64[np.ndarray, "3 height width"]:
    planes = np.empty((3, *image.shape[:2]))
    for channel, plane in enumerate(planes):
        # Multiplying by the reciprocal reproduces scikit-image's img_as_float64 to the last bit.
        scaled = np.multiply(image[..., channel], 1 / 255, dtype=np.float64)
        ndimage.gaussian_filter(scaled, sigma, mode="reflect", output=plane)
    return planes


def _sorted_edges(
    planes: Float64[np.ndarray, "3 height width"], height: int, width: int
) -> tuple[Float64[np.ndarray, " edges"], UInt32[np.ndarray, " edges"]]:
    """Returns the edge costs of the 8-neighbourhood in ascending order, and the edges: 4 * first pixel + direction."""
    num_edges = 4 * height * width - 3 * (height + width) + 2
    # Allocated by NumPy, not in the kernels: NumPy requests huge pages, which halves the time of the scatter.
    costs = np.empty(num_edges)
    _fill_costs(planes, costs)
    del planes  # memory use peaks here
    # Costs are non-negative, so their bits, read as integers, have the same order.
    bits, edge = costs.view(np.int64), np.empty(num_edges, np.uint32)
    _radix_sort(bits, edge, height, width, np.empty(num_edges, np.int64), np.empty(num_edges, np.uint32))
    _sort_equal_keys(bits, edge)
    return bits.view(np.float64), edge


@njit()
@no_type_check
def _fill_costs(planes, costs):
    """Computes the Euclidean colour distances of all edges to the right, then down, down-right, up-right."""
    _, height, width = planes.shape
    start = 0
    for direction in range(4):
        rows = height - (direction != 0)
        columns = width - (direction != 1)
        # From (y + y0, x + x0) to (y + y1, x + x1).
        x0, y1, x1 = direction == 3, direction != 0, direction in (0, 2)
        for y in range(rows):
            for x in range(columns):
                red = planes[0, y + y1, x + x1] - planes[0, y, x + x0]
                green = planes[1, y + y1, x + x1] - planes[1, y, x + x0]
                blue = planes[2, y + y1, x + x1] - planes[2, y, x + x0]
                costs[start + x] = np.sqrt(red * red + green * green + blue * blue)
            start += columns


@numba.njit(inline="always")
@no_type_check
def _key(bits):
    return max((bits - _KEY_BASE) >> _KEY_SHIFT, 0)


@njit()
@no_type_check
def _radix_sort(bits, edge, height, width, bits_low, edge_low):
    """Sorts by `_key`, stably, in two passes (to other arrays and back); numbers the edges in the first pass."""
    low, high = np.zeros(_DIGITS, np.int32), np.zeros(_DIGITS, np.int32)
    for i in range(bits.size):
        key = _key(bits[i])
        low[key & (_DIGITS - 1)] += 1
        high[key >> _DIGIT_BITS] += 1
    sum_low = sum_high = 0
    for digit in range(_DIGITS):
        low[digit], sum_low = sum_low, sum_low + low[digit]
        high[digit], sum_high = sum_high, sum_high + high[digit]
    i = 0
    for direction in range(4):
        for y in range(height - (direction != 0)):
            first = y * width + (direction == 3)
            for x in range(width - (direction != 1)):
                digit = _key(bits[i]) & (_DIGITS - 1)
                bits_low[low[digit]] = bits[i]
                edge_low[low[digit]] = (first + x) << 2 | direction
                low[digit] += 1
                i += 1
    for i in range(bits.size):
        digit = _key(bits_low[i]) >> _DIGIT_BITS
        bits[high[digit]] = bits_low[i]
        edge[high[digit]] = edge_low[i]
        high[digit] += 1


@njit()
@no_type_check
def _sort_equal_keys(bits, edge):
    """Finishes the sort within runs of equal keys, in place and stably."""
    at = 1
    while at < bits.size:
        if bits[at - 1] <= bits[at]:
            at += 1
            continue
        key = _key(bits[at])
        start, end = at - 1, at + 1
        while start > 0 and _key(bits[start - 1]) == key:
            start -= 1
        while end < bits.size and _key(bits[end]) == key:
            end += 1
        if end - start <= _LONG_RUN:
            for i in range(start + 1, end):
                moving_bits, moving_edge, j = bits[i], edge[i], i
                while j > start and bits[j - 1] > moving_bits:
                    bits[j], edge[j] = bits[j - 1], edge[j - 1]
                    j -= 1
                bits[j], edge[j] = moving_bits, moving_edge
        else:
            order = np.argsort(bits[start:end], kind="mergesort")
            bits[start:end] = bits[start:end][order]
            edge[start:end] = edge[start:end][order]
        at = end


@numba.njit(inline="always")
@no_type_check
def _root(parent, node):
    """Finds the root of a node's tree; halves the path on the way."""
    above = parent[node]
    while above != node:
        parent[node] = parent[above]
        node = parent[node]
        above = parent[node]
    return node


@njit()
@no_type_check
def _merge_until_rejected(cost, edge, num_pixels, width, scale):
    """Merges pixels up to the first edge that this scale rejects.

    Returns the component of each pixel, numbered in raster order; the size and inner cost of each component; and the
    number of edges processed.
    """
    offset = np.array((1, width, width + 1, width - 1))
    parent = np.arange(num_pixels).astype(np.int32)
    size = np.ones(num_pixels, np.int32)
    inner = np.zeros(num_pixels)
    threshold = np.full(num_pixels, np.float32(scale))
    taken = 0
    while taken < cost.size:
        first = np.int64(edge[taken] >> 2)
        one, other = _root(parent, first), _root(parent, first + offset[edge[taken] & 3])
        if one != other:
            if not (cost[taken] < threshold[one] and cost[taken] < threshold[other]):
                break
            if size[one] < size[other]:
                one, other = other, one
            parent[other] = one
            size[one] += size[other]
            inner[one] = cost[taken]
            # scikit-image compares in single precision.
            threshold[one] = np.float32(cost[taken] + scale / size[one])
        taken += 1
    component = np.full(num_pixels, -1, np.int32)
    count = 0
    for pixel in range(num_pixels):
        root = _root(parent, pixel)
        # A root gets its number at the first pixel of its tree; its own pixel, later in the loop, finds that number.
        if component[root] < 0:
            component[root] = count
            count += 1
        component[pixel] = component[root]
    component_size, component_inner = np.empty(count, np.int32), np.empty(count)
    for pixel in range(num_pixels):
        if parent[pixel] == pixel:
            component_size[component[pixel]] = size[pixel]
            component_inner[component[pixel]] = inner[pixel]
    return component, component_size, component_inner, taken


@njit()
@no_type_check
def _contract(cost, edge, width, component):
    """Returns the cost and both components of each edge between different components."""
    offset = np.array((1, width, width + 1, width - 1))
    kept_cost = np.empty(cost.size)
    one, other = np.empty(cost.size, np.int32), np.empty(cost.size, np.int32)
    kept = 0
    for i in range(cost.size):
        first = np.int64(edge[i] >> 2)
        one[kept] = component[first]
        other[kept] = component[first + offset[edge[i] & 3]]
        kept_cost[kept] = cost[i]
        kept += one[kept] != other[kept]
    return kept_cost[:kept], one[:kept], other[:kept]


@njit()
@no_type_check
def _merge_at_scale(cost, one, other, size, inner, scale, min_size):
    """Merges components at one scale, then the small ones; returns each component's label and the number of labels."""
    parent = np.arange(size.size).astype(np.int32)
    size = size.copy()
    threshold = np.empty(size.size, np.float32)
    for node in range(size.size):
        threshold[node] = np.float32(inner[node] + scale / size[node])
    # Only rejected edges with a small side can matter in the second pass: merged sides stay merged, and sizes grow.
    rejected = np.empty(cost.size, np.int32)
    num_rejected = 0
    for i in range(cost.size):
        first, second = _root(parent, one[i]), _root(parent, other[i])
        if first == second:
            continue
        if cost[i] < threshold[first] and cost[i] < threshold[second]:
            if size[first] < size[second]:
                first, second = second, first
            parent[second] = first
            size[first] += size[second]
            threshold[first] = np.float32(cost[i] + scale / size[first])
        elif size[first] < min_size or size[second] < min_size:
            rejected[num_rejected] = i
            num_rejected += 1
    for i in rejected[:num_rejected]:
        first, second = _root(parent, one[i]), _root(parent, other[i])
        if first != second and (size[first] < min_size or size[second] < min_size):
            if size[first] < size[second]:
                first, second = second, first
            parent[second] = first
            size[first] += size[second]
    label = np.zeros(size.size, np.int32)
    count = 0
    for node in range(size.size):
        root = _root(parent, node)
        if label[root] == 0:
            count += 1
            label[root] = count
        label[node] = label[root]
    return label, count


@njit()
@no_type_check
def _paint(component, label, layer):
    for pixel in range(component.size):
        layer[pixel] = label[component[pixel]]

"""Statistics of the regions in a sample of records."""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from data_prep.dataset import records


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of the regions in a sample of records.

    Attributes:
      num_regions: the number of regions in each image and layer.
      sizes: the sizes of each layer's regions, in pixels.
      covered: the fraction of each image's pixels that are in a region of each layer.
    """

    num_regions: Int64[np.ndarray, "images layers"]
    sizes: tuple[Int64[np.ndarray, " _"], ...]
    covered: Float64[np.ndarray, "images layers"]


def count(record: records.Record, num_layers: int) -> tuple:
    """Returns, for each layer of a record, the number of regions, their sizes, and the fraction of pixels covered."""
    sizes = [[np.empty(0, np.int64)] for _ in range(num_layers)]
    covered = np.zeros((num_layers, record.height, record.width), bool)
    for layer, label_map in zip(record.region_layers, record.regions, strict=True):
        pixels = np.bincount(label_map.reshape(-1))[1:]
        sizes[layer].append(pixels[pixels > 0])
        covered[layer] |= label_map > 0
    sizes = [np.concatenate(of_maps) for of_maps in sizes]
    return np.array([len(one) for one in sizes], np.int64), sizes, covered.mean(axis=(1, 2))

"""A region source that computes Felzenszwalb-Huttenlocher regions on the pixels that training will decode."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data_prep import felzenszwalb, images
from data_prep.dataset.inputs import Input
from data_prep.regions.region_source import LabelMaps
from data_prep.sources.source import Item
from data_prep.storage.paths import AnyPath

SIGMA = 0.8


@dataclasses.dataclass(frozen=True)
class FH:
    """Felzenszwalb-Huttenlocher regions: one layer of one label map per scale, see `data_prep.felzenszwalb.layers`."""

    scales: tuple[int, ...]

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The metadata of the layers."""
        return tuple(
            {"name": f"fh_{scale}", "method": "felzenszwalb", "scale": scale, "min_size": scale, "sigma": SIGMA}
            for scale in self.scales
        )

    def inputs(self) -> Iterator[Input]:
        """Yields nothing: no files are read."""
        return iter(())

    def ready(self, scratch: AnyPath) -> "FH":
        """Compiles the kernels once; every worker loads them from Numba's cache."""
        felzenszwalb.layers(np.zeros((2, 2, 3), np.uint8), self.scales, SIGMA)
        return self

    def notes(self, scratch: AnyPath) -> list[str]:
        """Returns nothing."""
        return []

    def __call__(self, item: Item, data: bytes, pixels: UInt8[np.ndarray, "height width 3"]) -> list[LabelMaps]:
        """Returns the label map of each scale.

        Raises:
          BadImage: a layer has more regions than a label map can hold.
        """
        try:
            return [layer[None] for layer in felzenszwalb.layers(pixels, self.scales, SIGMA)]
        except ValueError as error:
            raise images.BadImage(str(error)) from error

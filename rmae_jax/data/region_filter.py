"""The optional filters of R-MAE, which restrict the regions that may be drawn from a view of an image."""

import dataclasses
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Int, UInt16

from data_prep.numba_cache import njit


@dataclasses.dataclass(frozen=True)
class RegionFilter:
    """A filter that excludes regions that touch too few patches, or no visible patch.

    Attributes:
      patch_size: side of a patch, in pixels of the view.
      min_patches: minimum number of patches that a region must touch; 2 excludes small regions.
      num_visible: V of the regions' mask, for foreground sampling: a region must touch one of the first V patches of
        the example's permutation. None does not require a visible patch.
    """

    patch_size: int
    min_patches: int = 1
    num_visible: int | None = None

    def check(self, image_size: int) -> None:
        """Raises ValueError if the filter does not fit views of this size."""
        if self.patch_size < 1 or image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide the image size {image_size}")
        num_patches = (image_size // self.patch_size) ** 2
        for count in (self.min_patches, num_patches if self.num_visible is None else self.num_visible):
            if not 1 <= count <= num_patches:
                raise ValueError(f"min_patches and num_visible must be 1 to {num_patches}, not {count}")

    def draw_permutation(self, rng: np.random.Generator, image_size: int) -> Int[np.ndarray, "patches"] | None:
        """Draws the order of the patches for the regions' mask with foreground sampling; otherwise returns None."""
        if self.num_visible is None:
            return None
        return rng.permutation((image_size // self.patch_size) ** 2).astype(np.int32)

    def allowed(
        self, layers: UInt16[np.ndarray, "layers size size"], permutation: Int[np.ndarray, "patches"] | None
    ) -> Bool[np.ndarray, "layers labels"]:
        """Returns whether each label of each layer is a region that may be drawn.

        Args:
          layers: label maps as the model will see them; 0 = no region.
          permutation: the result of `draw_permutation`.
        """
        layers = np.ascontiguousarray(layers)
        num_patches = (layers.shape[1] // self.patch_size) * (layers.shape[2] // self.patch_size)
        allowed = _patches_touched(layers, self.patch_size, np.ones(num_patches, np.bool_)) >= self.min_patches
        if self.num_visible is not None:
            visible = np.zeros(num_patches, np.bool_)
            visible[permutation[: self.num_visible]] = True
            allowed &= _patches_touched(layers, self.patch_size, visible) > 0
        return allowed


# no_type_check: Numba cannot compile through the wrapper of a run-time type checker.
@njit()
@no_type_check
def _patches_touched(layers, patch, counted):
    """Counts the patches marked in `counted` that each label touches, (layers, largest label + 1); 0 for label 0."""
    labels = int(layers.max()) + 1 if layers.size else 1
    touched = np.zeros((layers.shape[0], labels), np.int32)
    columns = layers.shape[2] // patch
    for layer in range(layers.shape[0]):
        last = np.full(labels, -1)  # the last patch in which each label was seen
        for p in range(counted.shape[0]):
            if counted[p]:
                top, left = p // columns * patch, p % columns * patch
                for y in range(top, top + patch):
                    for x in range(left, left + patch):
                        label = layers[layer, y, x]
                        if last[label] != p:
                            last[label] = p
                            touched[layer, label] += 1
    touched[:, 0] = 0
    return touched

"""Completion of a region from marked patches: marks to masks, and masks to the predicted region.

The marked patches are the visible part of one region map: ones in the patches that are marked as inside the object,
zeros in those marked as outside. The encoder sees a random part of the photograph's patches, always with the marked
ones among them.
"""

import dataclasses
import threading
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt16

from rmae_jax.completion import to_pixels
from rmae_jax.model import RMAE, Mask, normalize, region_probability
from rmae_jax.model.patches import unpatchify
from rmae_jax.model.positions import Grid
from rmae_jax.model.region_encoder import RegionFeatures
from rmae_jax.model.region_patches import RegionPatches
from rmae_jax.model.region_query_decoder import QueryDecoder

NUM_PRECOMPILED = 12  # numbers of marks, from 1, for which the model is compiled in advance


class Click(NamedTuple):
    """A marked patch: its number, row by row, and whether it is marked as inside the object."""

    patch: int
    inside: bool


@dataclasses.dataclass(frozen=True)
class CompletedRegion:
    """The part of a photograph that the model does not see, and the region that it completes.

    Attributes:
      hidden: pixels of the patches that the encoder does not see.
      probability: probability that a pixel belongs to the region, 1 or 0 in marked patches; None if no patch is inside.
    """

    hidden: Bool[np.ndarray, "height width"]
    probability: Float[np.ndarray, "height width"] | None


def toggle(clicks: Sequence[Click], patch: int, inside: bool, num_patches: int) -> tuple[Click, ...]:
    """Marks a patch, removes its mark if it is already the same, or changes it if it is the other.

    A patch that the photograph does not have changes nothing. The newest mark comes last.
    """
    click = Click(patch, inside)
    others = tuple(other for other in clicks if other.patch != patch)
    if click in clicks or not 0 <= patch < num_patches:
        return others
    return (*others, click)


def image_mask(clicks: Sequence[Click], num_patches: int, hidden_share: float, seed: int) -> Mask:
    """Builds the photograph's mask: marked patches first, then the others in an order that depends only on `seed`.

    (1 - hidden_share) * L patches are visible, rounded down, but at least one and at least all marked ones. The region
    map's mask has the same permutation; its visible patches are the marked ones.
    """
    order = np.random.default_rng(seed).permutation(num_patches)
    marked = np.array([click.patch for click in clicks], order.dtype)
    order = np.concatenate([marked, order[~np.isin(order, marked)]])
    num_visible = int(num_patches * (1 - hidden_share) + 1e-6)  # (1 - 0.9) * 100 is 9.999... in binary
    return Mask(jnp.asarray(order[None], jnp.int32), max(num_visible, len(clicks), 1))


def region_map(clicks: Sequence[Click], size: int, patch_size: int) -> Float[np.ndarray, "size size"]:
    """Returns a map with ones in the patches that are marked as inside, and zeros elsewhere."""
    side = size // patch_size
    inside = np.zeros(side * side, np.float32)
    inside[[click.patch for click in clicks if click.inside]] = 1
    return to_pixels(inside, (side, side), patch_size)


class Segmenter:
    """A model's region branch, used to complete one region at a time.

    The compiled parts are small: encoder and neck are compiled once for each number of visible patches, the region
    encoder (and the decoder of the variants "batch" and "channel") once for each number of marked ones.

    Args:
      model: a model with a region branch.

    Raises:
      ValueError: the model has no region branch.
    """

    def __init__(self, model: RMAE):
        config = model.config
        if config.objective == "mae":
            raise ValueError('this model has no region branch to complete regions with: its objective is "mae"')
        self.model = model
        self.size, self.patch_size = config.image_size, config.patch_size
        self.side = config.image_size // config.patch_size
        self.num_patches = self.side**2
        # The "channel" variant reads K maps at once. It gets copies, as in training on images with one region.
        self.copies = config.num_regions if config.region_variant == "channel" else 1

    def complete(
        self, image: UInt8[np.ndarray, "size size 3"], clicks: Sequence[Click], hidden_share: float, seed: int
    ) -> CompletedRegion:
        """Completes the region whose visible part is given by `clicks`.

        Args:
          image: the photograph at the model's size.
          clicks: marked patches, each once; the newest last.
          hidden_share: fraction of the photograph's patches that is hidden, 0 to below 1.
          seed: decides which patches are hidden.
        """
        mask = image_mask(clicks, self.num_patches, hidden_share, seed)
        grid = self.side, self.side
        hidden = to_pixels(np.asarray(mask.masked[0]), grid, self.patch_size)
        if not any(click.inside for click in clicks):
            return CompletedRegion(hidden, None)
        visible = region_map(clicks, self.size, self.patch_size)
        maps = np.broadcast_to(visible, (1, self.copies, *visible.shape))
        features = _features(self.model, maps, Mask(mask.permutation, len(clicks)))
        memory = _memory(self.model, image[None], mask)
        probability = np.array(_decode(self.model, features, memory, mask.permutation))
        marked = np.zeros(self.num_patches, bool)
        marked[[click.patch for click in clicks]] = True
        marked = to_pixels(marked, grid, self.patch_size)
        return CompletedRegion(hidden, np.where(marked, visible, probability))

    def compile_ahead(self, stop: threading.Event) -> None:
        """Compiles the programs for 1 to NUM_PRECOMPILED marks, one after the other, at the model's mask ratio.

        Args:
          stop: stops before the next number of marks.
        """
        blank, hidden_share = np.zeros((self.size, self.size, 3), np.uint8), self.model.config.mask_ratio
        visible = image_mask((), self.num_patches, hidden_share, 0).num_visible
        for count in range(1, min(NUM_PRECOMPILED, visible) + 1):
            if stop.is_set():
                return
            self.complete(blank, [Click(patch, True) for patch in range(count)], hidden_share, 0)


@jax.jit
def _features(model: RMAE, maps: Float[Array, "1 copies size size"], region_mask: Mask) -> RegionFeatures:
    side = maps.shape[-1] // model.config.patch_size
    grid = Grid(side, side, model.config.position_scale)
    patches = RegionPatches(maps, model.config.patch_size, model.config.num_regions)
    features = model.region_encoder(patches.take(region_mask.visible_ids), region_mask, grid)
    if isinstance(model.region_decoder, QueryDecoder):
        # It reads only the mean. One token instead of V saves compiling the decoder again for each V.
        features = features._replace(tokens=features.mean[:, None])
    return features


@jax.jit
def _memory(model: RMAE, images: UInt8[Array, "1 size size 3"], mask: Mask) -> Float[Array, "1 tokens region_width"]:
    """Computes the region decoder's memory of the pixels, in the order of both masks, which share a permutation."""
    images = normalize(images)
    latent = model.encoder(images, mask)
    first = model.region_decoder.first_memory_token(1)
    return model.region_memory(latent, mask, mask, model.encoder.grid(images), first)


@jax.jit
def _decode(
    model: RMAE,
    features: RegionFeatures,
    memory: Float[Array, "1 tokens region_width"],
    permutation: Int[Array, "1 patches"],
) -> Float[Array, "size size"]:
    config = model.config
    predicted = model.region_decoder(features, memory, 1)[0][0, 0]  # (L, P * P), of the first copy
    predicted = predicted[jnp.argsort(permutation[0])].astype(jnp.float32)
    side = config.image_size // config.patch_size
    return unpatchify(region_probability(predicted, config.region_loss), (side, side), config.patch_size)[..., 0]


def region_under(labels: UInt16[np.ndarray, "size size"], patch: int, patch_size: int) -> Bool[np.ndarray, "size size"]:
    """Returns the region of a label map that covers most of a patch."""
    row, column = np.array(divmod(patch, labels.shape[1] // patch_size)) * patch_size
    inside = labels[row : row + patch_size, column : column + patch_size]
    return labels == np.bincount(inside.ravel()).argmax()

"""Random masks: which patches of each image are visible, by one random permutation per image."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped


@partial(jax.tree_util.register_dataclass, data_fields=["permutation"], meta_fields=["num_visible"])
@dataclasses.dataclass(frozen=True)
class Mask:
    """A random subset of visible patches for each image of a batch (R-MAE section 3; MAE section 3).

    It is drawn once and passed to both branches. The first `num_visible` entries of the permutation are visible, the
    others masked.

    Attributes:
      permutation: the L patch indices of each image in random order.
      num_visible: V, the number of visible patches, the same for all images of the batch.
    """

    permutation: Int[Array, "batch patches"]
    num_visible: int

    @classmethod
    def random(cls, key: PRNGKeyArray, batch: int, num_patches: int, mask_ratio: float) -> "Mask":
        """Draws a permutation of the patches for each image."""
        noise = jax.random.uniform(key, (batch, num_patches), jnp.float32)
        return cls.from_permutation(jnp.argsort(noise, axis=1), mask_ratio)

    @classmethod
    def from_permutation(cls, permutation: Int[Array, "batch patches"], mask_ratio: float) -> "Mask":
        """Returns the mask whose visible patches are the first (1 - mask_ratio) * L of a permutation.

        Raises:
          ValueError: the ratio leaves no patch visible, or none masked.
        """
        return cls(permutation, num_visible_patches(permutation.shape[1], mask_ratio))

    def with_ratio(self, mask_ratio: float) -> "Mask":
        """Returns the mask of another ratio with the same permutation: one visible set contains the other."""
        return Mask.from_permutation(self.permutation, mask_ratio)

    @property
    def visible_ids(self) -> Int[Array, "batch visible"]:
        """Indices of the visible patches, in the order of the encoder's tokens."""
        return self.permutation[:, : self.num_visible]

    @property
    def masked_ids(self) -> Int[Array, "batch masked"]:
        """Indices of the masked patches, in the order of the model's predictions."""
        return self.permutation[:, self.num_visible :]

    @property
    def restore_ids(self) -> Int[Array, "batch patches"]:
        """The position of each patch in the permutation (the inverse permutation)."""
        return jnp.argsort(self.permutation, axis=1)

    @property
    def masked(self) -> Bool[Array, "batch patches"]:
        """True where a patch of the image is masked."""
        return self.restore_ids >= self.num_visible


def num_visible_patches(num_patches: int, mask_ratio: float) -> int:
    """Returns V = (1 - mask_ratio) * L, rounded down.

    Raises:
      ValueError: the ratio leaves no patch visible, or none masked.
    """
    num_visible = int(num_patches * (1 - mask_ratio) + 1e-6)  # (1 - 0.9) * 100 is 9.999... in binary
    if not 0 < num_visible < num_patches:
        raise ValueError(
            f"mask ratio {mask_ratio} leaves {num_visible} of {num_patches} patches visible; "
            "at least one must be visible and one masked"
        )
    return num_visible


def take(x: Shaped[Array, "batch n *rest"], ids: Int[Array, "batch m"]) -> Shaped[Array, "batch m *rest"]:
    """Gathers entries `ids[b]` of every `x[b]`."""
    return jnp.take_along_axis(x, ids.reshape(*ids.shape, *[1] * (x.ndim - 2)), axis=1)


def fill_holes(
    visible: Float[Array, "batch visible width"], token: Float[Array, "1 1 width"], num_patches: int
) -> Float[Array, "batch {num_patches} width"]:
    """Appends `token` to the visible tokens once per masked patch: all patches, in their mask's order."""
    batch, num_visible, width = visible.shape
    holes = jnp.broadcast_to(token.astype(visible.dtype), (batch, num_patches - num_visible, width))
    return jnp.concatenate([visible, holes], axis=1)


def reorder(x: Shaped[Array, "batch patches *rest"], order: Mask, target: Mask) -> Shaped[Array, "batch patches *rest"]:
    """Reorders patches from the order of one mask to that of another; free if both share a permutation."""
    if order.permutation is target.permutation:
        return x
    return take(x, take(order.restore_ids, target.permutation))


def draw_masks(
    key: PRNGKeyArray,
    config: ml_collections.ConfigDict,
    batch: int,
    num_patches: int,
    region_permutation: Int[Array, "batch patches"] | None = None,
) -> tuple[Mask, Mask]:
    """Draws the masks of a step: the image's and the regions'.

    Both use the same permutation, unless `config.separate_masks`.

    Args:
      key: the random key of this step.
      config: `config.model` of a recipe.
      batch: B, the number of images.
      num_patches: L, the number of patches of an image.
      region_permutation: the permutation of the regions' mask, if the input pipeline already drew it, as with
        foreground sampling.
    """
    mask = Mask.random(key, batch, num_patches, config.mask_ratio)
    if region_permutation is not None:
        region_mask = Mask.from_permutation(region_permutation, config.region_mask_ratio)
    elif config.separate_masks:
        region_mask = Mask.random(jax.random.fold_in(key, 1), batch, num_patches, config.region_mask_ratio)
    else:
        region_mask = mask.with_ratio(config.region_mask_ratio)
    return mask if config.separate_masks else region_mask.with_ratio(config.mask_ratio), region_mask

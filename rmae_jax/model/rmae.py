"""The R-MAE model and its three objectives: MAE (pixels), RAE (regions), R-MAE (both)."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Block
from rmae_jax.model.dense_decoder import DenseDecoder
from rmae_jax.model.encoder import PixelEncoder
from rmae_jax.model.layers import Linear
from rmae_jax.model.losses import pixel_loss, region_loss
from rmae_jax.model.masks import Mask, reorder, take
from rmae_jax.model.patches import patchify
from rmae_jax.model.positions import Grid, scale_at_size
from rmae_jax.model.region_encoder import RegionEncoder, RegionFeed
from rmae_jax.model.region_map_decoder import MapDecoder
from rmae_jax.model.region_patches import RegionPatches, Regions
from rmae_jax.model.region_query_decoder import ExpansionBlock, QueryBlock, QueryDecoder
from rmae_jax.model.remat import PLAIN, Execution
from rmae_jax.model.validate import check

BLOCKS = (Block, QueryBlock, ExpansionBlock)  # the modules that `Execution` applies to


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """The results of a forward pass; None for those of a branch that the objective does not have.

    Attributes:
      loss: pixel_loss + region_loss_weight * region_loss.
      pixel_loss: mean squared error over the masked patches.
      region_loss: binary cross-entropy (or squared error) over the masked patches of the K maps.
      latent: (B, 1 + V, D), the encoder's output, cls first, visible patches in the mask's order.
      queries: (B, K, region_width), the region queries of the "length" variant.
      memory: (B, M, region_width), the region decoder's input from the pixels, at the patches of region_pred.
      pixel_pred: (B, M, P * P * 3), in the order of mask.masked_ids; normalised pixels with norm_pix_loss.
      region_pred: (B, K, M, P * P), in the order of the region mask's masked_ids; logits, or values with the l2 loss.
    """

    loss: Float[Array, ""]
    pixel_loss: Float[Array, ""] | None
    region_loss: Float[Array, ""] | None
    latent: Float[Array, "batch visible_and_cls width"]
    queries: Float[Array, "batch regions region_width"] | None
    memory: Float[Array, "batch region_masked region_width"] | None
    pixel_pred: Float[Array, "batch masked pixels"] | None
    region_pred: Float[Array, "batch regions region_masked region_pixels"] | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Predictions for every patch, visible ones included, in the image's order; None for a branch that does not exist.

    Attributes:
      pixels: (B, L, P * P * 3); normalised pixels with norm_pix_loss.
      regions: (B, K, L, P * P), logits, or values with the l2 loss; see `rmae_jax.model.region_probability`.
    """

    pixels: Float[Array, "batch patches pixels"] | None
    regions: Float[Array, "batch regions patches region_pixels"] | None


class RMAE(nnx.Module):
    """Region-aware masked autoencoder (R-MAE section 3).

    By default the pixel branch feeds the region branch and not the reverse: the region loss reaches the pixel encoder
    and never the pixel decoder, and the pixel loss does not depend on the regions.

    Args:
      config: `config.model` of a recipe; see configs/rmae_b.py for its keys.
      execution: how blocks run; by default with plain attention and no rematerialisation.
      rngs: random keys of the initial weights.

    Raises:
      ValueError: the values in `config` are invalid or contradict each other.
    """

    def __init__(self, config: ml_collections.ConfigDict, *, execution: Execution = PLAIN, rngs: nnx.Rngs):
        check(config)
        self.config = ml_collections.FrozenConfigDict(config)
        dtype = _dtype(config.dtype)
        layer, patch = {"dtype": dtype, "rngs": rngs}, config.patch_size
        options = layer | {"execution": execution}
        sizes = (config.width, config.depth, config.num_heads)
        self.encoder = PixelEncoder(patch, *sizes, position_scale=config.position_scale, **options)
        if config.objective != "rae":
            sizes = (config.decoder_width, config.decoder_depth, config.decoder_num_heads)
            self.decoder = DenseDecoder(config.width, *sizes, **options)
            self.pixel_head = Linear(config.decoder_width, 3 * patch**2, **layer)
        if config.objective != "mae":
            width, heads = config.region_width, config.region_num_heads
            channels = config.num_regions if config.region_variant == "channel" else 1
            self.region_encoder = RegionEncoder(patch, channels, width, config.region_encoder_depth, heads, **options)
            to_region = config.feeding_direction != "region_to_pixel"
            self.neck = DenseDecoder(config.width, width, config.neck_depth, heads, **options) if to_region else None
            sizes = (width, config.region_decoder_depth, heads)
            if config.region_variant == "length":
                self.region_decoder = QueryDecoder(patch, *sizes, **options)
            else:
                self.region_decoder = MapDecoder(patch, channels, *sizes, **options)
            to_pixel = config.feeding_direction != "pixel_to_region"
            self.region_feed = RegionFeed(width, config.decoder_width, **layer) if to_pixel else None

    def __call__(
        self,
        images: Float[Array, "batch height width 3"],
        regions: Regions | None,
        mask: Mask,
        region_mask: Mask | None = None,
    ) -> Outputs:
        """Computes the losses, over masked patches only, and the features and predictions behind them.

        Args:
          images: (B, H, W, 3), normalised by ImageNet's mean and standard deviation.
          regions: (B, K, H, W) of 0 and 1, or a bitmask (B, H, W) of num_regions bits, as `rmae_jax.data` provides it;
            not used by the "mae" objective.
          mask: the image's mask.
          region_mask: the regions' mask; by default that of `mask`'s permutation and the config's region_mask_ratio.

        Raises:
          ValueError: the objective needs regions and `regions` is None.
        """
        config = self.config
        if region_mask is None:
            region_mask = mask.with_ratio(config.region_mask_ratio)
        maps = self._region_patches(regions)
        predictions = self._predict(images, maps, mask, region_mask, masked_only=True)
        loss, image_loss, map_loss = jnp.zeros(()), None, None
        if config.objective != "rae":
            patches = take(patchify(images, config.patch_size), mask.masked_ids)
            image_loss = pixel_loss(predictions["pixel_pred"], patches, config.norm_pix_loss)
            loss += image_loss
        if config.objective != "mae":
            targets = maps.take(region_mask.masked_ids)
            map_loss = region_loss(predictions["region_pred"], targets, config.region_loss, config.background_weight)
            loss += config.region_loss_weight * map_loss
        return Outputs(loss=loss, pixel_loss=image_loss, region_loss=map_loss, **predictions)

    def reconstruct(
        self,
        images: Float[Array, "batch height width 3"],
        regions: Regions | None,
        mask: Mask,
        region_mask: Mask | None = None,
    ) -> Reconstruction:
        """Predicts every patch from the visible ones, for pictures; the arguments are those of a call."""
        if region_mask is None:
            region_mask = mask.with_ratio(self.config.region_mask_ratio)
        maps = self._region_patches(regions)
        predictions = self._predict(images, maps, mask, region_mask, masked_only=False)
        pixels, completed = predictions["pixel_pred"], predictions["region_pred"]
        if pixels is not None:
            pixels = take(pixels, mask.restore_ids)
        if completed is not None:
            completed = take(completed.swapaxes(1, 2), region_mask.restore_ids).swapaxes(1, 2)
        return Reconstruction(pixels, completed)

    def at_size(self, height: int, width: int) -> "RMAE":
        """Returns a model with the same weights for images of another size; its position tables are interpolated.

        The patches of the longer side span the positions of the training size. The interpolation is exact, since the
        table's formula also holds between its entries.

        Args:
          height: the images' height, in pixels.
          width: the images' width, in pixels.

        Raises:
          ValueError: the size is not a multiple of the patch size.
        """
        config, size = self.config, max(height, width)
        if height < 1 or width < 1 or height % config.patch_size or width % config.patch_size:
            raise ValueError(f"images of {height} x {width} pixels cannot be cut into patches of {config.patch_size}")
        if size == config.image_size:
            return self
        scale = scale_at_size(config.position_scale, config.image_size, size)
        resized = jax.tree.map(lambda leaf: leaf, self)  # a copy: modules are trees
        resized.encoder.position_scale = scale
        changed = {**config.to_dict(), "image_size": size, "position_scale": scale}
        resized.config = ml_collections.FrozenConfigDict(changed)
        return resized

    def _predict(
        self,
        images: Float[Array, "batch height width 3"],
        maps: RegionPatches | None,
        mask: Mask,
        region_mask: Mask,
        *,
        masked_only: bool,
    ) -> dict[str, Array | None]:
        """Runs both branches; predicts the masked patches, or all patches, in their mask's order.

        Returns:
          The fields of `Outputs` that are not losses.
        """
        config, grid = self.config, self.encoder.grid(images)
        latent = self.encoder(images, mask)
        pixel_pred = region_pred = queries = memory = features = hints = None
        if config.objective != "mae":
            features = self.region_encoder(maps.take(region_mask.visible_ids), region_mask, grid)
        if config.objective != "rae":
            if features is not None and self.region_feed is not None:
                hints = reorder(self.region_feed(features, region_mask), region_mask, mask)
            first = 1 + mask.num_visible if masked_only else 1  # token 0 is cls
            tokens = self.decoder(latent, mask, grid, order=mask, first_token=first, hints=hints)
            pixel_pred = self.pixel_head(tokens)
        if config.objective != "mae":
            first = 1 + region_mask.num_visible if masked_only else 1
            memory_start = self.region_decoder.first_memory_token(first)
            memory = self.region_memory(latent, mask, region_mask, grid, memory_start)
            region_pred, queries = self.region_decoder(features, memory, first)
            memory = memory[:, -region_pred.shape[2] :]
        return {
            "latent": latent,
            "queries": queries,
            "memory": memory,
            "pixel_pred": pixel_pred,
            "region_pred": region_pred,
        }

    def region_memory(
        self,
        latent: Float[Array, "batch visible_and_cls width"],
        mask: Mask,
        region_mask: Mask,
        grid: Grid,
        first_token: int,
    ) -> Float[Array, "batch tokens region_width"]:
        """Returns the region decoder's memory of each patch: the neck's features or, without a neck, its position."""
        if self.neck is not None:
            return self.neck(latent, mask, grid, order=region_mask, first_token=first_token)
        positions = jnp.asarray(grid.positions(self.config.region_width), latent.dtype)[region_mask.permutation]
        return jnp.pad(positions, ((0, 0), (1, 0), (0, 0)))[:, first_token:]

    def _region_patches(self, regions: Regions | None) -> RegionPatches | None:
        if self.config.objective == "mae":
            return None
        if regions is None:
            raise ValueError(
                f'the "{self.config.objective}" objective needs regions: (B, K, H, W) of 0 and 1, or their bitmask'
            )
        return RegionPatches(regions, self.config.patch_size, self.config.num_regions)


def _dtype(name: str) -> jnp.dtype:
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)

"""The three objectives in one model: MAE (pixels), RAE (regions), R-MAE (both)."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx
from jaxtyping import Array, Float

from rmae_jax.model.blocks import Linear
from rmae_jax.model.masks import Mask, num_visible_patches, take
from rmae_jax.model.pixels import DenseDecoder, PixelEncoder, pixel_targets
from rmae_jax.model.regions import RegionDecoder, RegionEncoder, region_loss, region_patches

OBJECTIVES = ("mae", "rae", "rmae")
DTYPES = ("auto", "bfloat16", "float32")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """Everything a forward pass computes; what the objective does not have is None.

    Attributes:
      loss: pixel_loss + region_loss_weight * region_loss.
      pixel_loss: mean squared error over the masked patches.
      region_loss: binary cross-entropy over the masked patches of the K maps.
      latent: (B, 1 + V, D), the encoder's output, cls first, visible patches in the mask's order.
      queries: (B, K, region_width), the region queries.
      memory: (B, 1 + L, region_width), the neck's output, cls first, patches in the image's order.
      pixel_pred: (B, M, P * P * 3), in the order of mask.masked_ids; normalised pixels with norm_pix_loss.
      region_pred: (B, K, M, P * P), logits, in the order of the region mask's masked_ids.
    """

    loss: Float[Array, ""]
    pixel_loss: Float[Array, ""] | None
    region_loss: Float[Array, ""] | None
    latent: Float[Array, "batch visible_and_cls width"]
    queries: Float[Array, "batch regions region_width"] | None
    memory: Float[Array, "batch patches_and_cls region_width"] | None
    pixel_pred: Float[Array, "batch masked pixels"] | None
    region_pred: Float[Array, "batch regions region_masked region_pixels"] | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Predictions for every patch, visible ones included, in the image's order; None where there is no branch.

    Attributes:
      pixels: (B, L, P * P * 3); normalised pixels with norm_pix_loss.
      regions: (B, K, L, P * P), logits.
    """

    pixels: Float[Array, "batch patches pixels"] | None
    regions: Float[Array, "batch regions patches region_pixels"] | None


class RMAE(nnx.Module):
    """Region-aware masked autoencoder (R-MAE section 3).

    The pixel branch feeds the region branch and not the reverse: the region loss reaches the pixel encoder and never
    the pixel decoder, and the pixel loss does not depend on the regions.

    Args:
      config: `config.model` of a recipe; see configs/rmae_b.py for its keys.
      rngs: keys of the initial weights.

    Raises:
      ValueError: the keys of `config` do not fit each other.
    """

    def __init__(self, config: ml_collections.ConfigDict, *, rngs: nnx.Rngs):
        _check(config)
        self.config = ml_collections.FrozenConfigDict(config)
        dtype = _dtype(config.dtype)
        options = {"dtype": dtype, "rngs": rngs}
        self.encoder = PixelEncoder(config.patch_size, config.width, config.depth, config.num_heads, **options)
        if config.objective != "rae":
            self.decoder = DenseDecoder(
                config.width, config.decoder_width, config.decoder_depth, config.decoder_num_heads, **options
            )
            self.pixel_head = Linear(config.decoder_width, 3 * config.patch_size**2, **options)
        if config.objective != "mae":
            width, heads = config.region_width, config.region_num_heads
            self.region_encoder = RegionEncoder(config.patch_size, width, config.region_encoder_depth, heads, **options)
            self.neck = DenseDecoder(config.width, width, config.neck_depth, heads, **options)
            self.region_decoder = RegionDecoder(config.patch_size, width, config.region_decoder_depth, heads, **options)

    def __call__(
        self,
        images: Float[Array, "batch height width 3"],
        regions: Float[Array, "batch regions height width"] | None,
        mask: Mask,
    ) -> Outputs:
        """The losses, over masked patches only, and all that led to them.

        Args:
          images: (B, H, W, 3), normalised by ImageNet's mean and standard deviation.
          regions: (B, K, H, W) of 0 and 1; not looked at by the "mae" objective.
          mask: the image's mask; the region branch masks by the same permutation.

        Raises:
          ValueError: the objective needs regions and there are none.
        """
        config, grid = self.config, self._grid(images)
        latent = self.encoder(images, mask)
        loss, outputs = jnp.zeros(()), {}
        if config.objective != "rae":
            pred = self.pixel_head(take(self.decoder(latent, mask, grid)[:, 1:], mask.masked_ids))
            targets = take(pixel_targets(images, config.patch_size, config.norm_pix_loss), mask.masked_ids)
            pixel_loss = jnp.mean((pred.astype(jnp.float32) - targets) ** 2)
            loss += pixel_loss
            outputs |= {"pixel_loss": pixel_loss, "pixel_pred": pred}
        if config.objective != "mae":
            region_mask = mask.with_ratio(config.region_mask_ratio)
            patches = self._region_patches(regions)
            queries = self.region_encoder(patches, region_mask, grid)
            memory = self.neck(latent, mask, grid)
            logits = self.region_decoder(queries, memory, region_mask)
            targets = take(patches, region_mask.masked_ids)
            branch_loss = region_loss(logits, targets, config.background_weight)
            loss += config.region_loss_weight * branch_loss
            outputs |= {
                "region_loss": branch_loss,
                "queries": queries,
                "memory": memory,
                "region_pred": logits,
            }
        absent = dict.fromkeys(("pixel_loss", "region_loss", "queries", "memory", "pixel_pred", "region_pred"))
        return Outputs(loss=loss, latent=latent, **absent | outputs)

    def reconstruct(
        self,
        images: Float[Array, "batch height width 3"],
        regions: Float[Array, "batch regions height width"] | None,
        mask: Mask,
    ) -> Reconstruction:
        """Predicts every patch from the visible ones, for pictures; arguments as for a call."""
        config, grid = self.config, self._grid(images)
        latent = self.encoder(images, mask)
        pixels = logits = None
        if config.objective != "rae":
            pixels = self.pixel_head(self.decoder(latent, mask, grid)[:, 1:])
        if config.objective != "mae":
            region_mask = mask.with_ratio(config.region_mask_ratio)
            queries = self.region_encoder(self._region_patches(regions), region_mask, grid)
            logits = self.region_decoder(queries, self.neck(latent, mask, grid), None)
        return Reconstruction(pixels, logits)

    def _grid(self, images: Float[Array, "batch height width 3"]) -> tuple[int, int]:
        return images.shape[1] // self.config.patch_size, images.shape[2] // self.config.patch_size

    def _region_patches(self, regions: Float[Array, "batch regions height width"] | None):
        if regions is None:
            raise ValueError(f'the "{self.config.objective}" objective needs regions, (B, K, H, W) of 0 and 1')
        return region_patches(regions, self.config.patch_size)


def _dtype(name: str) -> jnp.dtype:
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(name)


def _check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where keys of `config.model` do not fit each other."""
    if config.objective not in OBJECTIVES:
        raise ValueError(f"model.objective is {config.objective!r}; it must be one of {', '.join(OBJECTIVES)}")
    if config.image_size % config.patch_size:
        raise ValueError(
            f"model.image_size {config.image_size} is not a multiple of model.patch_size {config.patch_size}"
        )
    for prefix in ("", "decoder_", "region_"):
        width, heads = config[f"{prefix}width"], config[f"{prefix}num_heads"]
        if width % heads or width % 4:
            raise ValueError(
                f"model.{prefix}width {width} must be a multiple of 4 and of model.{prefix}num_heads {heads}"
            )
    if config.dtype not in DTYPES:
        raise ValueError(f"model.dtype is {config.dtype!r}; it must be one of {', '.join(DTYPES)}")
    if not 1 <= config.num_regions <= 32:
        raise ValueError(f"model.num_regions is {config.num_regions}; it must be 1 to 32")
    num_patches = (config.image_size // config.patch_size) ** 2
    for ratio in (config.mask_ratio, config.region_mask_ratio):
        num_visible_patches(num_patches, ratio)
    for key in ("depth", "decoder_depth", "neck_depth", "region_encoder_depth", "region_decoder_depth"):
        if config[key] < 1:
            raise ValueError(f"model.{key} is {config[key]}; it must be at least 1")

"""Checks of `config.model`: allowed values, and keys that must fit each other."""

import ml_collections

from rmae_jax.model.losses import LOSSES
from rmae_jax.model.masks import num_visible_patches

CHOICES = {
    "objective": ("mae", "rae", "rmae"),
    "region_variant": ("length", "batch", "channel"),
    "feeding_direction": ("pixel_to_region", "region_to_pixel", "both"),
    "region_loss": LOSSES,
    "dtype": ("auto", "bfloat16", "float32"),
}
POSITIVE = (
    "image_size",
    "patch_size",
    "width",
    "depth",
    "num_heads",
    "decoder_width",
    "decoder_depth",
    "decoder_num_heads",
    "region_width",
    "region_num_heads",
    "region_encoder_depth",
    "region_decoder_depth",
    "neck_depth",
)


def check(config: ml_collections.ConfigDict) -> None:
    """Checks `config.model` of a recipe.

    Raises:
      ValueError: a key's value is not allowed, or does not fit the value of another key.
    """
    for key, choices in CHOICES.items():
        if config[key] not in choices:
            raise ValueError(f"model.{key} is {config[key]!r}; it must be one of {', '.join(choices)}")
    if config.feeding_direction != "pixel_to_region" and config.objective != "rmae":
        raise ValueError(
            f"model.feeding_direction {config.feeding_direction!r} needs both branches, "
            f"but model.objective is {config.objective!r}"
        )
    for key in POSITIVE:
        if config[key] < 1:
            raise ValueError(f"model.{key} is {config[key]}; it must be at least 1")
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
    if not 1 <= config.num_regions <= 32:
        raise ValueError(f"model.num_regions is {config.num_regions}; it must be 1 to 32")
    num_patches = (config.image_size // config.patch_size) ** 2
    for key in ("mask_ratio", "region_mask_ratio"):
        try:
            num_visible_patches(num_patches, config[key])
        except ValueError as error:
            raise ValueError(f"model.{key}: {error}") from error
    for key in ("region_loss_weight", "background_weight"):
        if config[key] < 0:
            raise ValueError(f"model.{key} is {config[key]}; it must not be negative")
    if config.position_scale <= 0:
        raise ValueError(f"model.position_scale is {config.position_scale}; it must be positive")

"""Where a run's dataset is, the small one that needs no download, and which of its regions are drawn."""

from pathlib import Path

import ml_collections

from data_prep import job, shipped_photographs
from rmae_jax.data import RegionFilter
from rmae_jax.model.masks import num_visible_patches
from rmae_jax.runtime import host_consistency, hosts
from rmae_jax.training.recipe import names


def dataset_folder(config: ml_collections.ConfigDict, run: Path) -> Path:
    """The folder that data.path names; without a path, the photographs that scikit-image ships, prepared in the run.

    Raises:
      PrepError: the photographs could not be prepared.
    """
    if config.data.path:
        return Path(config.data.path)
    folder, images = run / "data", run / "photographs"
    if hosts.is_first():
        shipped_photographs.write(images)
        for split in ("train", "validation"):
            job.prepare(images=images / split, output=folder, name="photographs", split=split)
    host_consistency.check_equal({}, "preparing photographs")
    return folder


def region_layers(config: ml_collections.ConfigDict) -> list[str]:
    """The names in data.region_layers; none where all layers are used, or none is ("mae")."""
    if config.model.objective == "mae":
        return []
    return names(config.data.region_layers)


def region_filter(config: ml_collections.ConfigDict) -> RegionFilter | None:
    """Which regions may be drawn, by data.min_region_patches and data.region_sampling; None if all may."""
    num_visible = None
    if config.data.region_sampling == "foreground":
        num_patches = (config.model.image_size // config.model.patch_size) ** 2
        num_visible = num_visible_patches(num_patches, config.model.region_mask_ratio)
    elif config.data.min_region_patches == 1:
        return None
    return RegionFilter(config.model.patch_size, config.data.min_region_patches, num_visible)

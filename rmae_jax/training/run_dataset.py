"""The dataset of a run: its folder, the small dataset that needs no download, and which regions are drawn."""

from pathlib import Path

import ml_collections

from data_prep import job, shipped_photographs
from data_prep.storage.paths import local_path
from rmae_jax import data
from rmae_jax.data import RegionFilter
from rmae_jax.model.masks import num_visible_patches
from rmae_jax.runtime import host_consistency, hosts
from rmae_jax.training.recipe import names


def dataset_folder(config: ml_collections.ConfigDict, run: Path) -> Path:
    """Returns data.path; without a path, prepares the photographs that scikit-image ships in the run folder.

    Raises:
      PrepError: the photographs cannot be prepared.
    """
    if config.data.path:
        return local_path(config.data.path)
    folder, images = run / "data", run / "photographs"
    if hosts.is_first():
        shipped_photographs.write(images)
        for split in ("train", "validation"):
            job.prepare(images=images / split, output=folder, name="photographs", split=split)
    host_consistency.check_equal({}, "preparing photographs")
    return folder


def check_regions(source: data.TFRecordSource) -> None:
    """Checks that the selected layers of a split have regions; warns of fewer than one per image.

    Raises:
      DatasetError: they have none.
    """
    layers, counts = source.metadata["layers"], source.metadata.get("num_regions", [])
    if not source.layer_ids or len(counts) != len(layers):
        return  # an error of another kind, which reading reports
    total, names = sum(counts[i] for i in source.layer_ids), ", ".join(layers[i]["name"] for i in source.layer_ids)
    where = f"{source.folder}: split {source.split!r} has"
    if not total:
        raise data.DatasetError(
            f"{where} no regions in its layers ({names}); check the annotations that data_prep was given, choose other "
            "data.region_layers, or use objective mae"
        )
    if total < len(source):
        hosts.print_once(f"{where} only {total / len(source):.2f} regions per image in its layers ({names})")


def region_layers(config: ml_collections.ConfigDict) -> list[str]:
    """Returns the names in data.region_layers; empty if all layers are used, or none is needed ("mae")."""
    if config.model.objective == "mae":
        return []
    return names(config.data.region_layers)


def region_filter(config: ml_collections.ConfigDict) -> RegionFilter | None:
    """Returns the filter set by data.min_region_patches and data.region_sampling; None if all regions may be drawn."""
    num_visible = None
    if config.data.region_sampling == "foreground":
        num_patches = (config.model.image_size // config.model.patch_size) ** 2
        num_visible = num_visible_patches(num_patches, config.model.region_mask_ratio)
    elif config.data.min_region_patches == 1:
        return None
    return RegionFilter(config.model.patch_size, config.data.min_region_patches, num_visible)

"""Pictures of what a checkpoint has learned: completed images and regions, attention, features, nearest neighbours.

Each kind has a function that returns NumPy arrays and a function that draws them; `python -m rmae_jax.inspect` writes
one page with all of them. The names are imported on first use, so that the command reports a wrong flag without
loading JAX.
"""

import importlib

_PUBLIC = {
    "Photograph": "rmae_jax.photographs",
    "load_photographs": "image_files",
    "view": "rmae_jax.photographs",
    "reconstruct": "reconstruction",
    "draw_reconstruction": "reconstruction",
    "complete_regions": "region_completion",
    "draw_region_completion": "region_completion",
    "attention_maps": "attention",
    "attention_weights": "attention",
    "draw_attention": "attention",
    "patch_features": "features",
    "image_features": "features",
    "principal_components": "pca",
    "pca_colours": "pca",
    "draw_pca": "pca",
    "patch_similarity": "similarity",
    "draw_patch_similarity": "similarity",
    "region_queries": "queries",
    "query_similarity": "queries",
    "draw_query_similarity": "queries",
    "nearest_images": "neighbours",
    "nearest_patches": "neighbours",
    "draw_nearest_images": "neighbours",
    "draw_nearest_patches": "neighbours",
    "draw_losses": "loss_curve",
    "write_page": "report",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rmae_jax.inspect' has no attribute {name!r}")
    module = _PUBLIC[name]
    return getattr(importlib.import_module(module if "." in module else f"rmae_jax.inspect.{module}"), name)

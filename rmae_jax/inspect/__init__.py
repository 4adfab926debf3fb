"""Looking at what a checkpoint has learned: completed pictures, attention, features, neighbours.

Each of these is a function that returns NumPy arrays, and one that draws them; `python -m rmae_jax.inspect` makes one
page of all. The names are loaded at their first use, so that a wrong flag of the command is answered without JAX.
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

"""Each layer of the code imports only layers below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# A package or module, and everything of this project that it may import besides itself.
DATA_PREP = ("data_prep",)
MODEL = (*DATA_PREP, "rmae_jax.model", "rmae_jax.data")
SHARED = ("rmae_jax.completion", "rmae_jax.feature_extraction", "rmae_jax.photographs", "rmae_jax.segmentation_scores")
TRAINING = (*MODEL, *SHARED, "rmae_jax.interop", "rmae_jax.runtime")
ALLOWED = {
    "data_prep": (),
    "rmae_jax.data": DATA_PREP,
    "rmae_jax.model": (),
    "rmae_jax.interop": (*DATA_PREP, "rmae_jax.model"),
    "rmae_jax.completion": MODEL,
    "rmae_jax.feature_extraction": MODEL,
    "rmae_jax.photographs": MODEL,
    "rmae_jax.segmentation_scores": (),
    "rmae_jax.runtime": (),
    "rmae_jax.training": TRAINING,
    "rmae_jax.checkpoint_loading": (*TRAINING, "rmae_jax.training"),
    "rmae_jax.evaluate": (*TRAINING, "rmae_jax.training", "rmae_jax.checkpoint_loading"),
    "rmae_jax.readiness": (*TRAINING, "rmae_jax.training", "rmae_jax.recipe_flags"),
    "rmae_jax.inspect": (*TRAINING, "rmae_jax.training", "rmae_jax.checkpoint_loading"),
    "rmae_jax.demo": (*TRAINING, "rmae_jax.training", "rmae_jax.checkpoint_loading"),
}


def imports(path: Path) -> Iterator[str]:
    """The modules of this project that a file imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("data_prep", "rmae_jax", "configs", "benchmarks"))


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_those_below(layer):
    place = Path(*layer.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    below = (layer, *ALLOWED[layer])
    upward = {
        f"{path}: {name}"
        for path in files
        for name in imports(path)
        if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in below)
    }
    assert not upward


def test_private_names_of_libraries_are_in_one_file():
    homes = {
        str(path)
        for folder in ("data_prep", "rmae_jax")
        for path in Path(folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(part.startswith("_") for part in (node.module or "").split("."))
    }
    assert homes == {"rmae_jax/runtime/private_apis.py"}

"""Growth of a step's matrix products and of a checkpoint with the encoder, K, the neck and the image size.

    python -m benchmarks.recipe_sizes

Traces the training steps of the recipes and counts their products (rmae_jax/readiness/flops.py); nothing is compiled
or run. Prints a step's GFLOPs per image (a multiply-add is two; forward and backward pass), the number of parameters in
millions, and the size of a checkpoint in GB: float32 parameters and two moments, 12 bytes per parameter.
"""

import importlib
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import ml_collections

from configs import rmae_b
from rmae_jax.readiness.compiled_step import abstract_batch
from rmae_jax.readiness.flops import product_flops
from rmae_jax.training.mesh import training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.recipe import Durations
from rmae_jax.training.step import abstract_state, train_step

RECIPES = ("mae_b", "rae_b", "rmae_ti", "rmae_s", "rmae_b", "rmae_l", "rmae_h")
CHANGES = {
    "num_regions": (1, 4, 16, 32),
    "neck_depth": (8,),
    "image_size": (112, 448, 896),
}  # to `config.model` of rmae_b


def count(config: ml_collections.ConfigDict) -> tuple[float, int]:
    """Returns (FLOPs per image, number of parameters) of a recipe's step."""
    config.batch_size = 4
    mesh, optimizer = training_mesh(config), adamw(config, Durations(100, 10))
    state = abstract_state(config, optimizer, mesh)
    traced = train_step(config, optimizer, mesh).trace(state, abstract_batch(config, mesh))
    return product_flops(traced.jaxpr.jaxpr) / config.batch_size, sum(x.size for x in jax.tree.leaves(state.params))


def main() -> None:
    """Prints the table."""
    print("| | GFLOPs per image | M parameters | checkpoint, GB |\n|---|---|---|---|")
    configs = {f"`{name}`": importlib.import_module(f"configs.{name}").get_config() for name in RECIPES}
    for key, values in CHANGES.items():
        for value in values:
            config = configs[f"`rmae_b`, `model.{key}` = {value}"] = rmae_b.get_config()
            config.model[key] = value
    for name, config in configs.items():
        flops, parameters = count(config)
        print(f"| {name} | {flops / 1e9:.1f} | {parameters / 1e6:.1f} | {12 * parameters / 1e9:.2f} |", flush=True)


if __name__ == "__main__":
    main()

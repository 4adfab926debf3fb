"""FLOPs of the loss and its gradient, as counted by the compiler: the cost of regions over MAE, and its growth with K.

    python -m benchmarks.flops [--batch=16]

Compiles the forward and backward pass of the recipe configs/rmae_b.py (ViT-B/16 at 224 pixels) and prints GFLOPs per
image (a multiply-add is two; element-wise operations count) and the ratio to MAE. Nothing is run.

XLA counts the body of a loop once, however often it runs, so blocks are unrolled for counting. MAE is compiled as a
whole. The cost that a region branch adds is counted with one encoder block and one decoder block, because it does not
depend on their number.
"""

import argparse
import os
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from configs import rmae_b
from rmae_jax.model import RMAE, draw_masks

NUM_REGIONS = (1, 4, 8, 16, 32)
SHALLOW = {"depth": 1, "decoder_depth": 1}


def model_config(**changes) -> ml_collections.ConfigDict:
    """Returns `config.model` of rmae_b in float32, with changes."""
    config = rmae_b.get_config().model
    config.update({"dtype": "float32"} | changes)
    return config


def flops(config: ml_collections.ConfigDict, batch: int, *, backward: bool = True) -> float:
    """Returns the FLOPs per image of the compiled loss, or of the loss and its gradient."""
    model = nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0)))
    num_patches = (config.image_size // config.patch_size) ** 2

    def loss(model: RMAE, images: jax.Array, regions: jax.Array, key: jax.Array) -> jax.Array:
        return model(images, regions, *draw_masks(key, config, batch, num_patches)).loss

    function = jax.value_and_grad(loss) if backward else loss
    images = jax.ShapeDtypeStruct((batch, config.image_size, config.image_size, 3), jnp.float32)
    regions = jax.ShapeDtypeStruct((batch, config.num_regions, config.image_size, config.image_size), jnp.float32)
    scan = jax.lax.scan
    with mock.patch("jax.lax.scan", lambda *args, **options: scan(*args, **options | {"unroll": True})):
        compiled = jax.jit(function).lower(model, images, regions, jax.random.key(0)).compile()
    return compiled.cost_analysis()["flops"] / batch


def main() -> None:
    """Prints a table of MAE, of both necks and of the region variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    batch = parser.parse_args().batch

    print("| | forward, GFLOPs | over MAE | forward + backward, GFLOPs | over MAE |\n|---|---|---|---|---|")
    mae, shallow = {}, {}
    for backward in (False, True):
        mae[backward] = flops(model_config(objective="mae"), batch, backward=backward)
        shallow[backward] = flops(model_config(objective="mae", **SHALLOW), batch, backward=backward)
    print(f"| MAE | {mae[False] / 1e9:.2f} | | {mae[True] / 1e9:.2f} | |")

    def row(name: str, **changes) -> str:
        cells = []
        for backward in (False, True):
            added = flops(model_config(**changes, **SHALLOW), batch, backward=backward) - shallow[backward]
            cells.append(f"{(mae[backward] + added) / 1e9:.2f} | +{added / mae[backward]:.2%}")
        return f"| {name} | {' | '.join(cells)} |"

    for neck_depth in (1, 8):
        print(row(f"R-MAE, K = 8, neck of {neck_depth}", neck_depth=neck_depth), flush=True)
    for variant in ("length", "batch", "channel"):
        for k in NUM_REGIONS:
            print(row(f'"{variant}", K = {k}', region_variant=variant, num_regions=k), flush=True)


if __name__ == "__main__":
    main()

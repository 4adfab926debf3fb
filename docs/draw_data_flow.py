"""A drawing of the model's data flow, docs/pictures/data_flow.png, with names and shapes taken from the code.

python -m docs.draw_data_flow [--output=docs/pictures/data_flow.png]
"""

import argparse
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from flax import nnx

from configs import rmae_b
from rmae_jax.model import RMAE, Mask, draw_masks

DATA, MODULE, LOSS = "#eef2f7", "#cfe3ff", "#ffe2c4"


def shapes(batch: int = 2) -> tuple[RMAE, dict[str, jax.ShapeDtypeStruct]]:
    """Returns the abstract model of configs/rmae_b.py, with a region feed, and the shapes of its outputs."""
    config = rmae_b.get_config().model
    config.feeding_direction = "both"
    model = nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0)))
    side, num_patches = config.image_size, (config.image_size // config.patch_size) ** 2
    images = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    regions = jax.ShapeDtypeStruct((batch, config.num_regions, side, side), jnp.float32)

    def run(model: RMAE, images: jax.Array, regions: jax.Array) -> dict[str, jax.Array | None]:
        return vars(model(images, regions, *draw_masks(jax.random.key(0), config, batch, num_patches)))

    return model, jax.eval_shape(run, model, images, regions)


def draw(path: Path) -> None:
    """Writes the drawing."""
    model, outputs = shapes()
    config = model.config
    figure, axis = plt.subplots(figsize=(13, 6.2), layout="constrained")
    axis.set(xlim=(0, 13), ylim=(0, 6.2))
    axis.axis("off")

    def box(x: float, y: float, name: str, detail: str, colour: str) -> tuple[float, float]:
        patch = matplotlib.patches.FancyBboxPatch(
            (x - 0.82, y - 0.36), 1.64, 0.72, "round,pad=0.06", fc=colour, ec="gray"
        )
        axis.add_patch(patch)
        axis.text(x, y + 0.13, name, ha="center", va="center", fontsize=10, weight="bold", family="monospace")
        axis.text(x, y - 0.18, detail, ha="center", va="center", fontsize=8)
        return x, y

    def arrow(start: tuple, end: tuple) -> None:
        """Draws an arrow between the edges of two boxes that are next to or above each other."""
        (x0, y0), (x1, y1) = start, end
        across, up = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        line((x0 + 0.88 * across, y0 + 0.42 * up), (x1 - 0.88 * across, y1 - 0.42 * up))

    def line(*points: tuple, style: str = "-") -> None:
        """Draws a line through points, with an arrowhead at its end."""
        axis.plot(*zip(*points, strict=True), color="black", linestyle=style, linewidth=1.2)
        axis.annotate(
            "",
            points[-1],
            points[-2],
            arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 0, "shrinkB": 0, "mutation_scale": 16},
        )

    def module(attribute: str) -> str:
        return type(getattr(model, attribute)).__name__

    def shape(array: jax.ShapeDtypeStruct) -> str:
        return f"(B, {', '.join(map(str, array.shape[1:]))})"

    k, side, width = config.num_regions, config.image_size, config.region_width
    top, middle, bottom = 5.3, 3.1, 0.9
    images = box(1, top, "images", f"(B, {side}, {side}, 3)", DATA)
    masks = box(1, middle, Mask.__name__, f"from {draw_masks.__name__}", DATA)
    regions = box(1, bottom, "regions", f"(B, {k}, {side}, {side})", DATA)
    encoder = box(3.2, top, module("encoder"), "encoder: visible patches", MODULE)
    latent = box(5.4, top, "latent", shape(outputs["latent"]), DATA)
    decoder = box(7.6, top, module("decoder"), "decoder, pixel_head", MODULE)
    pixel_pred = box(9.8, top, "pixel_pred", shape(outputs["pixel_pred"]), DATA)
    pixel_loss = box(12, top, "pixel_loss", "masked patches", LOSS)
    neck = box(5.4, middle, module("neck"), "neck", MODULE)
    memory = box(7.6, middle, "memory", shape(outputs["memory"]), DATA)
    feed = box(3.2, middle, module("region_feed"), "feeding_direction both", MODULE)
    region_encoder = box(3.2, bottom, module("region_encoder"), "region_encoder: visible", MODULE)
    features = box(5.4, bottom, "features.mean", f"(B * {k}, {width})", DATA)
    region_decoder = box(7.6, bottom, module("region_decoder"), "region_decoder", MODULE)
    region_pred = box(9.8, bottom, "region_pred", shape(outputs["region_pred"]), DATA)
    region_loss = box(12, bottom, "region_loss", "masked patches", LOSS)
    loss = box(12, middle, "loss", "pixel + λ region", LOSS)

    for row in (
        (images, encoder, latent, decoder, pixel_pred, pixel_loss),
        (regions, region_encoder, features, region_decoder, region_pred, region_loss),
        (latent, neck, memory, region_decoder),
    ):
        for start, end in itertools.pairwise(row):
            arrow(start, end)
    for loss_part in (pixel_loss, region_loss):
        arrow(loss_part, loss)
    for target, edge in ((encoder, -0.42), (region_encoder, 0.42)):
        line((masks[0] + 0.88, middle), (target[0] - 0.5, target[1] + edge))
    line((feed[0], bottom + 0.42), (feed[0], middle - 0.42), style="--")
    line((feed[0], middle + 0.42), (feed[0], 4.2), (decoder[0], 4.2), (decoder[0], top - 0.42), style="--")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/pictures/data_flow.png"))
    draw(parser.parse_args().output)

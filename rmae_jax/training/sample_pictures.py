"""Sample pictures during training: completions of fixed images from their visible patches, and the loss curve."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, Int, PyTree, UInt, UInt8
from PIL import Image, ImageDraw, ImageFont

from data_prep.storage.atomic_write import atomic_write
from rmae_jax import data
from rmae_jax.completion import GRAY, Completion, complete
from rmae_jax.model import RMAE, draw_masks, unpack_regions
from rmae_jax.model.shapes import abstract_model
from rmae_jax.runtime import hosts
from rmae_jax.segmentation_scores import iou
from rmae_jax.training.loss_curve import loss_curve
from rmae_jax.training.mesh import local_copy
from rmae_jax.training.metrics import name_in_errors

PHOTOGRAPHS = 6
SHOWN_REGIONS = 3  # of each image's K regions
WIDTH = 128  # approximate width in pixels; smaller images are enlarged by an integer factor
LINE, GAP, FONT_SIZE = 24, 8, 12  # pixels: a line of text above each image, the gap between images, the font


class SamplePictures:
    """The pictures of a run, RUN/pictures/STEP.png and RUN/losses.png; host 0 draws them."""

    def __init__(self, config: ml_collections.ConfigDict, run: Path, held_out: data.TFRecordSource, **view: int):
        """Chooses images spread over the held-out split `held_out`; see `rmae_jax.data.batches` for `view`.

        Raises:
          DatasetError: one of their records is corrupt, or regions are requested and the dataset has none.
        """
        self._run, self._seed = run, config.seed
        spread = np.linspace(0, len(held_out) - 1, min(PHOTOGRAPHS, len(held_out))).astype(int).tolist()
        self._batch = data.center_examples(held_out, spread, seed=config.seed, on_error=config.data.on_error, **view)
        self._graphdef = abstract_model(config.model)[0]

    def draw(self, step: int, params: PyTree[jax.Array], mesh: Mesh) -> None:
        """Draws the images as completed with `params`, and the losses so far. All hosts must take part.

        Raises:
          OSError: a picture cannot be written.
        """
        params = local_copy(params, mesh)
        if not hosts.is_first():
            return
        picture, curve = self._run / "pictures" / f"{step:07d}.png", self._run / "losses.png"
        with name_in_errors(picture):
            model = nnx.merge(self._graphdef, params)
            draw_completions(model, self._batch["images"], self._batch.get("regions"), picture, self._seed)
        with name_in_errors(curve):
            if (figure := loss_curve(self._run / "metrics.jsonl")) is not None:
                with atomic_write(curve) as out:
                    figure.savefig(out, format="png")


def draw_completions(
    model: RMAE,
    images: UInt8[np.ndarray, "batch height width 3"],
    regions: UInt[np.ndarray, "batch height width"] | None,
    path: Path,
    seed: int = 0,
) -> None:
    """Draws one row per image and writes the picture to `path`.

    A row has the image, the masked input and the reconstruction; then, for each of the largest regions, the visible
    part, the completed region and the ground truth. Visible patches are pasted into the predictions. The masks depend
    only on `seed`, so that pictures of a run can be compared.
    """
    config = model.config
    num_patches = (images.shape[1] // config.patch_size) * (images.shape[2] // config.patch_size)
    masks = draw_masks(jax.random.key(seed), config, len(images), num_patches)
    maps = None
    if config.objective != "mae":
        maps = np.asarray(unpack_regions(jnp.asarray(regions), config.num_regions))
    completed = complete(model, images, maps, *masks)
    columns, titles = [(images, {})], ["photograph"]
    if completed.pixels is not None:
        visible = np.where(completed.hidden[..., None], GRAY, images / 255)
        columns += [(visible, {}), (completed.pixels, {})]
        titles += ["visible", "reconstructed"]
    if maps is not None:
        columns += _region_columns(maps, completed)
        titles += ["region: visible", "completed", "truth"] * SHOWN_REGIONS
    _figure(columns, titles, path)


def _region_columns(maps: Float[np.ndarray, "batch regions height width"], completed: Completion) -> list:
    hidden, columns = completed.regions_hidden, []
    chosen = np.stack([_largest(example) for example in maps])
    rows = np.arange(len(maps))
    for shown in chosen.T:
        truth, made = maps[rows, shown], completed.regions[rows, shown]
        scores = [iou(one > 0.5, true > 0.5, where) for one, true, where in zip(made, truth, hidden, strict=True)]
        columns += [
            (np.where(hidden, GRAY, truth), {}),
            (made, {"iou": scores}),
            (truth, {}),
        ]
    return columns


def _largest(maps: Float[np.ndarray, "regions height width"]) -> Int[np.ndarray, " shown"]:
    """Returns the indices of the largest maps; those that cover nearly everything, and duplicates, come last."""
    area = maps.sum(axis=(1, 2))
    area[area > 0.9 * maps[0].size] -= maps[0].size
    first = {one.tobytes(): index for index, one in reversed(list(enumerate(maps)))}
    area[np.setdiff1d(np.arange(len(maps)), list(first.values()))] -= 2 * maps[0].size
    return np.resize(np.argsort(-area, kind="stable"), SHOWN_REGIONS)


def _figure(columns: list, titles: list[str], path: Path) -> None:
    """Draws the columns next to each other, with titles; matplotlib would take ten times as long."""
    rows, height, width = columns[0][0].shape[:3]
    scale = max(1, round(WIDTH / width))
    height, width = scale * height, scale * width
    canvas = np.full((LINE + rows * (height + LINE), len(columns) * (width + GAP), 3), 255, np.uint8)
    words = []
    for j, ((values, notes), title) in enumerate(zip(columns, titles, strict=True)):
        left = GAP // 2 + j * (width + GAP)
        words.append((left + width / 2, LINE / 2, title))
        if values.dtype != np.uint8:
            values = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
        values = values if values.ndim == 4 else values[..., None]  # gray
        for i, one in enumerate(values.repeat(scale, axis=1).repeat(scale, axis=2)):
            top = LINE + i * (height + LINE)
            canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = 0  # a frame
            canvas[top : top + height, left : left + width] = one
            if "iou" in notes:
                words.append((left + width / 2, top + height + 0.4 * LINE, f"IoU {notes['iou'][i]:.2f}"))
    picture = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    for x, y, text in words:
        pen.text((x, y), text, fill="black", font=font, anchor="mm")
    with atomic_write(path) as out:
        picture.save(out, "PNG", compress_level=1)

"""The page with all pictures of a checkpoint."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.storage.atomic_write import atomic_write_text, require_writable
from data_prep.storage.paths import local_path
from rmae_jax import checkpoint_loading
from rmae_jax.inspect import captions
from rmae_jax.inspect.html_page import Picture, Section, render
from rmae_jax.inspect.image_files import load_photographs
from rmae_jax.inspect.loss_curve import draw_losses
from rmae_jax.inspect.sections import PageSections, Report
from rmae_jax.model import RMAE
from rmae_jax.photographs import LONGEST_ASPECT, Photograph, check_size

OBJECTIVES = {"mae": "MAE: pixels", "rae": "RAE: regions", "rmae": "R-MAE: pixels and regions"}


def write_page(
    checkpoint: str | Path,
    images: Sequence[str | Path],
    output: str | Path,
    *,
    image_size: int | None = None,
    mask_ratio: float | None = None,
    seed: int = 0,
    block: int = -1,
    overwrite: bool = False,
    report: Report = lambda done, total: None,
    skipped: Callable[[str], None] = warnings.warn,
) -> Path:
    """Writes OUTPUT/index.html, a page with all pictures of a checkpoint.

    Args:
      checkpoint: a run folder (newest step) or one step's folder.
      images: image files, folders or patterns.
      output: a folder, created if it does not exist.
      image_size: length of the photographs' shorter side, in pixels; by default the model's.
      mask_ratio: fraction of the patches that is masked; by default the model's.
      seed: decides which patches are masked and which regions are drawn.
      block: index of the encoder block whose attention is drawn, from 0; negative indices count from the last.
      overwrite: replaces an existing page.
      report: called with the number of steps done and their total.
      skipped: called with a message for each file that is skipped because it cannot be read.

    Returns:
      The path of the page.

    Raises:
      ConfigError: `checkpoint` is not in a run folder.
      CheckpointError: there is no complete checkpoint.
      ValueError: no file is an image, or an option is invalid.
      OSError: a file cannot be read or written.
    """
    page = local_path(output) / "index.html"
    if page.exists() and not overwrite:
        raise FileExistsError(f"{page} already exists; replace it with --overwrite")
    require_writable(page.parent)
    model, config = checkpoint_loading.load(checkpoint)
    run, step = checkpoint_loading.run_and_step(checkpoint)
    size = config.model.image_size if image_size is None else image_size
    check_size(size, config.model.patch_size)
    photographs = load_photographs(images, size, config.model.patch_size, skipped=skipped)
    sections = [_training(run, step), *PageSections(model, photographs, mask_ratio, seed, block, report).sections()]
    facts = _facts(run, step, model, photographs, size, mask_ratio, seed)
    text = render(f"What {run.resolve().name} has learned", facts, json.dumps(config.to_dict(), indent=2), sections)
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(page, text.encode(errors="replace").decode())  # names of files may not be UTF-8
    return page


def _training(run: Path, step: int) -> Section:
    figure = draw_losses(run, step)
    if figure is None:
        return Section("Training", (), omitted=[captions.NO_LOSSES])
    return Section("Training", [captions.LOSSES], [Picture(figure, "", "The run's losses by step")])


def _facts(
    run: Path,
    step: int,
    model: RMAE,
    photographs: Sequence[Photograph],
    size: int,
    mask_ratio: float | None,
    seed: int,
) -> list[tuple[str, str]]:
    config = model.config
    ratios = dict.fromkeys(("photographs", "regions"), mask_ratio)
    if mask_ratio is None:
        ratios = {"photographs": config.mask_ratio, "regions": config.region_mask_ratio}
    hidden = " and ".join(f"{ratio:.0%} of the patches of {what}" for what, ratio in ratios.items())
    seen = (
        f"{len(photographs)}; shorter side resized to {size} pixels, centre cropped to multiples of "
        f"{config.patch_size} pixels, longer side at most {LONGEST_ASPECT} times the shorter"
    )
    if size != config.image_size:
        seen += f" (trained at {config.image_size} pixels: positions are interpolated)"
    return [
        ("Run", str(run)),
        ("Step", str(step)),
        ("Objective", OBJECTIVES[config.objective]),
        ("Encoder", f"ViT of {config.depth} blocks, width {config.width}, patches of {config.patch_size} pixels"),
        ("Photographs", seen),
        (
            "Masked",
            f"{hidden}, drawn with seed {seed}, for reconstruction, region completion and region queries; "
            "nothing in the other sections",
        ),
    ]

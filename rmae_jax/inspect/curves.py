"""A run's losses."""

from pathlib import Path

from matplotlib.figure import Figure

from rmae_jax.inspect.figures import ACCENTS, INK, PANEL, styled
from rmae_jax.training import metrics


@styled
def draw_losses(run: str | Path, step: int | None = None) -> Figure | None:
    """Draws the losses of a run's metrics.jsonl over the steps, a panel each; None where nothing was logged.

    Args:
      run: its folder.
      step: of a checkpoint, to mark.
    """
    lines = metrics.read(Path(run) / "metrics.jsonl")
    names = [name for name in ("pixel_loss", "region_loss") if lines and name in lines[0]]
    if not names:
        return None
    figure = Figure(figsize=(2 * PANEL * len(names), 2.1), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name, colour in zip(axes, names, ACCENTS, strict=False):
        axis.plot([line["step"] for line in lines], [line[name] for line in lines], linewidth=1.4, color=colour)
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("step")
        axis.grid(alpha=0.25, color=INK, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params(nbins=5)
        if step is not None:
            axis.axvline(step, color=INK, linewidth=0.8, linestyle=":")
    return figure

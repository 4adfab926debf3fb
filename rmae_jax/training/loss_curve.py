"""The loss curve of a run, as a figure."""

from pathlib import Path

from matplotlib.figure import Figure

from rmae_jax.training.metrics import read

LOSSES = ("pixel_loss", "region_loss")


def loss_curve(metrics: Path, step: int | None = None) -> Figure | None:
    """Draws the losses of a metrics.jsonl, one panel per loss; returns None if the file has no lines.

    Args:
      metrics: the path of the metrics.jsonl.
      step: a step to mark with a dotted line.
    """
    lines = read(metrics)
    names = [name for name in LOSSES if lines and name in lines[0]]
    if not names:
        return None
    width = 4 * len(names)
    # Fixed margins: to compute them, matplotlib would draw everything twice.
    margins = {"left": 0.55 / width, "right": 1 - 0.15 / width, "bottom": 0.17, "top": 0.88, "wspace": 0.2}
    figure = Figure(figsize=(width, 2.6), dpi=120)
    axes = figure.subplots(1, len(names), squeeze=False, gridspec_kw=margins)[0]
    for axis, name in zip(axes, names, strict=True):
        axis.plot([line["step"] for line in lines], [line[name] for line in lines], linewidth=1.2)
        axis.set(title=name.replace("_", " "), xlabel="step")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if step is not None:
            axis.axvline(step, color="gray", linewidth=0.8, linestyle=":")
    return figure

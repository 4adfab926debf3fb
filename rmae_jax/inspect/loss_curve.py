"""The loss curve of a run, in the style of the page."""

from pathlib import Path

from matplotlib.figure import Figure

from rmae_jax.inspect.figures import styled
from rmae_jax.training.loss_curve import loss_curve


@styled
def draw_losses(run: str | Path, step: int | None = None) -> Figure | None:
    """Draws the losses of a run over its steps; returns None if nothing was logged.

    Args:
      run: the run folder.
      step: a checkpoint's step, to mark.
    """
    return loss_curve(Path(run) / "metrics.jsonl", step)

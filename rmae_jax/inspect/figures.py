"""The style of figures: panels of one size, small text that is legible on white and black, no background."""

import io

import matplotlib
import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT_COLOUR = "#767676"  # contrast 4.5:1 on white and on black
ACCENTS = ("#e4572e", "#2e86ab", "#d9a404", "#4c9f50", "#9d6cc9", "#cc5a8d", "#3aa6a0", "#8f6b4a")
PANEL = 1.4  # width of a panel, in inches
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.edgecolor": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "axes.titlecolor": TEXT_COLOUR,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}
styled = matplotlib.rc_context(STYLE)  # decorator of drawing functions


def panels(rows: int, columns: int, aspect: float, text: float = 0.2) -> tuple[Figure, np.ndarray]:
    """Creates a figure with a grid of empty panels for pictures.

    Args:
      rows: number of rows.
      columns: number of columns.
      aspect: height of a picture divided by its width.
      text: total height of the text above and below the pictures of a row, in inches.

    Returns:
      The figure and its axes, (rows, columns).
    """
    figure = Figure(figsize=(PANEL * columns, rows * (PANEL * aspect + text)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


def show(
    axis: Axes, picture: Shaped[np.ndarray, "height width *colours"], title: str = "", note: str = "", **options: object
) -> None:
    """Shows a picture in a panel: colours (uint8, or 0..1), or values with a colour map, by default from 0 to 1."""
    values = {"vmin": 0, "vmax": 1, "cmap": "gray"} | options if picture.ndim == 2 else {}
    axis.imshow(picture, interpolation="nearest" if picture.ndim == 2 else None, **values)
    axis.set_title(title, pad=3)
    axis.set_xlabel(note, labelpad=2)


def webp(figure: Figure) -> bytes:
    """Encodes a figure as WebP with a transparent background, at a quarter of the size of the same PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="webp", dpi=144, pil_kwargs={"quality": 88, "method": 4})
    return out.getvalue()

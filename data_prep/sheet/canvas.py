"""A canvas for text, images and axes, with coordinates in pixels."""

from bisect import bisect_right
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

DPI = 100
FONT = "DejaVu Sans"  # comes with Matplotlib, so pictures look the same everywhere


class Canvas:
    """A picture to draw on, with coordinates in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        fonts = [get_font(findfont(FontProperties(family=FONT, weight=weight))) for weight in ("normal", "bold")]
        self.glyphs = set.intersection(*({*font.get_charmap()} for font in fonts))

    def text(self, x: int, y: int, text: str, room: int, **style: Any) -> None:
        """Writes a line of text with its baseline at y, shortened in the middle to a width of `room`."""
        style = {"size": 10.5, "weight": "normal"} | style
        font = FontProperties(family=FONT, size=style.pop("size"), weight=style.pop("weight"))
        text = "".join(letter if ord(letter) in self.glyphs else "\N{REPLACEMENT CHARACTER}" for letter in text)
        if self._width(text, font) > room:
            lengths = range(len(text))
            kept = bisect_right(lengths, room, key=lambda kept: self._width(_shortened(text, kept), font)) - 1
            text = _shortened(text, max(kept, 0))
        place = x / self.width, 1 - y / self.height
        self.figure.text(*place, text, va="baseline", fontproperties=font, parse_math=False, **style)

    def _width(self, text: str, font: FontProperties) -> float:
        return self.renderer.get_text_width_height_descent(text, font, False)[0]

    def image(self, x: int, y: int, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Draws an image without scaling it."""
        self.figure.figimage(pixels, x, self.height - y - len(pixels))

    def axes(self, x: int, y: int, width: int, height: int) -> Axes:
        """Returns new axes without a frame on the right and at the top."""
        size = width / self.width, height / self.height
        axes = self.figure.add_axes((x / self.width, 1 - y / self.height - size[1], *size))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        return axes


def _shortened(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

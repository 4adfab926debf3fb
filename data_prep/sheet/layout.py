"""The layout of a sheet: statistics at the top, then photographs and their regions, then the skipped images."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from data_prep.dataset.metadata import read_skipped
from data_prep.dataset.split import Split
from data_prep.errors import PrepError
from data_prep.sheet.canvas import DPI, Canvas
from data_prep.sheet.panels import RecordPanels
from data_prep.sheet.statistics import Statistics
from data_prep.storage.atomic_write import atomic_write
from data_prep.storage.paths import AnyPath

# Lengths are in pixels.
MARGIN = 28
GAP = 8  # between a photograph and its layers
SPACE = 26  # between photographs
LINE = 24
PANELS = 8  # at most, of all photographs in a row
PANEL_WIDTHS = (170, 440)
HEADER_WIDTHS = (900, 1560)  # the least: without and with layers
TABLE_WIDTH = 800
HISTOGRAM_HEIGHT = 200
SKIPPED_LINES = 10
MAX_SIDE = (1 << 16) - 1  # Agg's limit for a side
GRAY = "#666666"


def columns(num_layers: int, num_images: int) -> tuple[int, int]:
    """Returns the width of a panel, and the number of photographs in a row."""
    abreast = min(max(1, PANELS // (1 + num_layers)), num_images)
    width = HEADER_WIDTHS[1] * 5 // 4 // (abreast * (1 + num_layers)) - GAP
    return min(max(width, PANEL_WIDTHS[0]), PANEL_WIDTHS[1]), abreast


def draw(
    split: Split,
    metadata: dict[str, Any],
    statistics: Statistics,
    rows: Sequence[Sequence[RecordPanels]],
    output: AnyPath,
) -> None:
    """Draws the sheet of a split and writes it to `output` as a PNG.

    Raises:
      PrepError: the picture would be larger than Agg can draw.
    """
    num_layers = len(metadata["layers"])
    panel = max(one.shape[1] for row in rows for shown in row for one in shown.panels)
    panel = max(panel, columns(num_layers, len(rows[0]))[0])
    pitch = (panel + GAP) * (1 + num_layers) - GAP + SPACE
    width = max(HEADER_WIDTHS[num_layers > 0], pitch * len(rows[0]) - SPACE + 2 * MARGIN)
    heights = [2 * LINE + max(len(shown.panels[0]) for shown in row) + SPACE for row in rows]
    skipped = skipped_lines(read_skipped(split))
    top = MARGIN + 3 * LINE + (max(HISTOGRAM_HEIGHT, (num_layers + 3) * LINE) if num_layers else 0)
    height = top + sum(heights) + LINE * len(skipped) + MARGIN
    if height > MAX_SIDE or width > MAX_SIDE:
        raise PrepError(
            f"the picture would have {width}x{height} pixels, but a side has at most {MAX_SIDE}; lower --images"
        )
    canvas = Canvas(width, height)
    _draw_header(canvas, split, metadata, statistics)
    y = top
    for row, row_height in zip(rows, heights, strict=True):
        for number, shown in enumerate(row):
            x = MARGIN + number * pitch
            canvas.text(x, y + LINE - 8, shown.title, pitch - SPACE, weight="bold")
            for caption, pixels in zip(shown.captions, shown.panels, strict=True):
                canvas.text(x, y + 2 * LINE - 9, caption, panel - GAP, color=GRAY)
                canvas.image(x, y + 2 * LINE, pixels)
                x += panel + GAP
        y += row_height
    for number, line in enumerate(skipped):
        canvas.text(
            MARGIN, y + LINE * (number + 1) - 8, line, width - 2 * MARGIN, weight="normal" if number else "bold"
        )
    with atomic_write(output, output.parent) as out:
        canvas.figure.savefig(out, dpi=DPI, format="png", metadata={"Software": None})


def _draw_header(canvas: Canvas, split: Split, metadata: dict[str, Any], statistics: Statistics) -> None:
    y = MARGIN + LINE - 8
    canvas.text(MARGIN, y, f"{split.name}, {split.split}", canvas.width - 2 * MARGIN, size=20, weight="bold")
    said = [f"images: {metadata['num_examples']:,}", f"skipped: {metadata['num_skipped']:,}"]
    said += [f"shards: {len(metadata['shard_lengths']):,}"] + ([] if metadata["layers"] else ["no regions"])
    y += LINE * 4 // 3
    canvas.text(MARGIN, y, "     ".join(said), canvas.width - 2 * MARGIN, size=12)
    if metadata["layers"]:
        _draw_table(canvas, y + LINE * 5 // 3, metadata, statistics)
        _draw_histograms(canvas, statistics)


def _draw_table(canvas: Canvas, y: int, metadata: dict[str, Any], statistics: Statistics) -> None:
    heads = {"mean": 330, "min": 400, "median": 485, "max": 565, "median pixels": 690, "covered": 775}
    canvas.text(MARGIN + heads["mean"], y, "regions of an image", 300, color=GRAY, ha="center")
    canvas.text(MARGIN, y + LINE, "layer", 200, color=GRAY)
    for head, x in heads.items():
        canvas.text(MARGIN + x, y + LINE, head, 120, color=GRAY, ha="right")
    y += 2 * LINE
    for layer, described in enumerate(metadata["layers"]):
        own, pixels = statistics.num_regions[:, layer], statistics.sizes[layer]
        cells = (
            f"{metadata['num_regions'][layer] / metadata['num_examples']:,.1f}",
            f"{own.min():,}",
            f"{np.median(own):,.0f}",
            f"{own.max():,}",
            f"{np.median(pixels):,.0f}" if len(pixels) else "–",
            f"{statistics.covered[:, layer].mean():.0%}",
        )
        canvas.text(MARGIN, y, described["name"], 260, color=_layer_colour(layer), weight="bold")
        for x, cell in zip(heads.values(), cells, strict=True):
            canvas.text(MARGIN + x, y, cell, 100, ha="right")
        y += LINE
    sample = len(statistics.num_regions)
    if sample < metadata["num_examples"]:
        note = f"mean: over all images; other columns and histograms: over {sample:,} random images"
        canvas.text(MARGIN, y, note, TABLE_WIDTH, color=GRAY, size=9)


def _draw_histograms(canvas: Canvas, statistics: Statistics) -> None:
    pitch = (canvas.width - 2 * MARGIN - TABLE_WIDTH) // 2
    sizes, counts = (
        canvas.axes(MARGIN + TABLE_WIDTH + number * pitch + 70, MARGIN, pitch - 80, HISTOGRAM_HEIGHT)
        for number in (0, 1)
    )
    pixels = np.concatenate(statistics.sizes)
    decades = (int(np.log10(pixels.min())), int(np.log10(pixels.max())) + 1) if len(pixels) else (0, 1)
    size_bins = np.logspace(*decades, 41)
    most = int(statistics.num_regions.max(initial=1))
    step = -(-(most + 1) // 40)
    count_bins = np.arange(0, most + step + 1, step) - 0.5
    for layer, own in enumerate(statistics.sizes):
        style = {"color": _layer_colour(layer), "linewidth": 1.5}
        sizes.stairs(*np.histogram(own, size_bins), **style)
        counts.stairs(*np.histogram(statistics.num_regions[:, layer], count_bins), **style)
    sizes.set(xscale="log", xlim=size_bins[[0, -1]], ylim=(0, None if len(pixels) else 1))
    counts.set(xlim=count_bins[[0, -1]], ylim=(0, None))
    counts.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axes, what, of_what in ((sizes, "regions", "pixels of a region"), (counts, "images", "regions of an image")):
        axes.set_xlabel(of_what, fontsize=10)
        axes.set_ylabel(what, fontsize=10)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _layer_colour(layer: int) -> tuple[float, ...]:
    return matplotlib.colormaps["tab10"](layer % 10)


def skipped_lines(skipped: Iterable[dict[str, str]]) -> list[str]:
    """Returns lines that list the skipped images by reason; reasons that differ only in numbers share a line."""
    groups: dict[str, list[dict[str, str]]] = {}
    for entry in skipped:
        groups.setdefault(re.sub(r"\d+", "…", entry["reason"]), []).append(entry)
    if not groups:
        return []
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    lines = [f"skipped: {sum(map(len, groups.values())):,}"]
    for reason, entries in ordered[:SKIPPED_LINES]:
        if len({entry["reason"] for entry in entries}) == 1:
            reason = entries[0]["reason"]
        examples = ", ".join(entry["image_id"] for entry in entries[:3]) + (", …" if len(entries) > 3 else "")
        lines.append(f"{len(entries):,} × {reason}: {examples}")
    others = ordered[SKIPPED_LINES:]
    if others:
        lines.append(f"{sum(len(entries) for _, entries in others):,} for {len(others):,} other reasons")
    return lines

"""Draws a sheet of photographs and their regions, to see if a dataset is right: `python -m data_prep.show DATASET`.

Prints the path of the picture. Ends with status 1 if there is nothing to draw, 2 after wrong usage.
"""

import argparse
import dataclasses
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt16
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from PIL import Image

from data_prep import progress, reading
from data_prep.errors import PrepError
from data_prep.reading import Split
from rmae_jax import records

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
SAMPLE = 1000  # records that the statistics are from
OPACITY = 0.5  # of the regions' colours
GOLDEN = 0.6180339887  # hues that many turns apart are all distinct

# Lengths are in pixels.
DPI = 100
MARGIN = 28
GAP = 8  # between a photograph and its layers
SPACE = 26  # between photographs
LINE = 24
PANELS = 8  # abreast, of all photographs in a row
PANEL_WIDTHS = (170, 440)
HEADER_WIDTHS = (900, 1560)  # at least: without and with layers
TABLE_WIDTH = 800
HISTOGRAM_HEIGHT = 200
SKIPPED_LINES = 10
MOST_PIXELS = (1 << 16) - 1  # Agg's limit for a side
FONT = "DejaVu Sans"  # comes with Matplotlib: the same everywhere
GRAY = "#666666"


@dataclasses.dataclass(frozen=True)
class Shown:
    """A photograph ready to be drawn.

    Attributes:
      title: its image_id.
      captions: below the title, of each panel.
      panels: the photograph, then it with the regions of each layer.
    """

    title: str
    captions: tuple[str, ...]
    panels: tuple[UInt8[np.ndarray, "h w 3"], ...]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of a sample of the records.

    Attributes:
      num_regions: in each image and layer.
      sizes: of the regions of each layer, in pixels.
      covered: fraction of each image's pixels that lie in a region of each layer.
    """

    num_regions: Int64[np.ndarray, "images layers"]
    sizes: tuple[Int64[np.ndarray, " _"], ...]
    covered: Float64[np.ndarray, "images layers"]


def show(
    folder: Path,
    split: str = "train",
    output: Path | None = None,
    *,
    num_images: int = 12,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draws a split of a dataset; returns the path of the picture.

    Args:
      folder: of the dataset.
      split: of the dataset.
      output: where to write the PNG; by default NAME-SPLIT.sheet.png in the dataset's folder.
      num_images: how many photographs to draw; all, if there are fewer.
      seed: decides which.
      report: called with the number of records read and the number of all that will be.

    Raises:
      PrepError: an argument is wrong, or what it names is missing or damaged.
      OSError: the picture cannot be written.
    """
    if num_images < 1 or seed < 0:
        raise PrepError(f"--images={num_images} --seed={seed}: at least one image and a seed from 0 up are needed")
    chosen = reading.choose(reading.find_splits(folder), split)
    if len(chosen) > 1:
        raise PrepError(f"{folder}: several datasets with a split {split!r}: {', '.join(one.name for one in chosen)}")
    source = chosen[0]
    output = folder / f"{source}.sheet.png" if output is None else output
    if output.suffix != ".png":
        raise PrepError(f"{output}: the picture is a PNG; give a file name that ends in .png")
    if not output.parent.is_dir():
        raise PrepError(f"{output.parent}: no such folder; make it, or give another --output")
    metadata = reading.read_metadata(source)
    num_shards = len(metadata["shard_lengths"])
    index = reading.read_index(source, num_shards)
    if not len(index):
        raise PrepError(f"{source.index_path}: {source} has no images")
    order = np.random.default_rng(seed).choice(len(index), min(len(index), max(SAMPLE, num_images)), replace=False)
    drawn = set(order[:num_images].tolist())
    panel_width, abreast = _columns(len(metadata["layers"]), len(drawn))
    shown, counts = [], []
    for done, number in enumerate(np.sort(order).tolist()):
        report(done, len(order))
        record = reading.read_record(source, num_shards, index, number)
        try:
            counts.append(_count(record, len(metadata["layers"])))
            if number in drawn:
                shown.append(_prepare(record, metadata, panel_width))
        except (ValueError, LookupError) as error:
            raise PrepError(
                f"{folder}: record {number} of {source}: {reading.one_line(error)}; data_prep.verify tells more"
            ) from error
    report(len(order), len(order))
    statistics = Statistics(
        num_regions=np.stack([num_regions for num_regions, _, _ in counts]),
        sizes=tuple(np.concatenate(sizes) for sizes in zip(*(sizes for _, sizes, _ in counts), strict=True)),
        covered=np.stack([covered for _, _, covered in counts]),
    )
    _draw(source, metadata, statistics, [shown[i : i + abreast] for i in range(0, len(shown), abreast)], output)
    return output


def _columns(num_layers: int, num_images: int) -> tuple[int, int]:
    """Width of a panel, and the number of photographs in a row."""
    abreast = min(max(1, PANELS // (1 + num_layers)), num_images)
    width = HEADER_WIDTHS[1] * 5 // 4 // (abreast * (1 + num_layers)) - GAP
    return min(max(width, PANEL_WIDTHS[0]), PANEL_WIDTHS[1]), abreast


def _count(record: records.Record, num_layers: int) -> tuple:
    """Of one record: regions of each layer, their sizes, and the fraction of the pixels that they cover."""
    sizes = [[np.empty(0, np.int64)] for _ in range(num_layers)]
    covered = np.zeros((num_layers, record.height, record.width), bool)
    for layer, label_map in zip(record.region_layers, record.regions, strict=True):
        pixels = np.bincount(label_map.reshape(-1))[1:]
        sizes[layer].append(pixels[pixels > 0])
        covered[layer] |= label_map > 0
    sizes = [np.concatenate(of_maps) for of_maps in sizes]
    return np.array([len(one) for one in sizes], np.int64), sizes, covered.mean(axis=(1, 2))


def _prepare(record: records.Record, metadata: dict[str, Any], width: int) -> Shown:
    """Draws the panels of one record, each within a square of `width`."""
    pixels = records.decode_image(record.image)
    if pixels.shape[:2] != (record.height, record.width):
        raise ValueError(f"the image is {pixels.shape[:2]}, its label maps are {(record.height, record.width)}")
    scale = width / max(record.height, record.width)
    height, width = (max(1, round(side * scale)) for side in (record.height, record.width))
    smooth = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    photograph = np.asarray(Image.fromarray(pixels).resize((width, height), smooth))
    rows, columns = (
        ((np.arange(to) + 0.5) * (size / to)).astype(np.int64)
        for to, size in ((height, record.height), (width, record.width))
    )
    maps = record.regions[:, rows[:, None], columns]
    size = f"{record.width} × {record.height}"
    classes = metadata.get("classes", [])
    captions = [size + (f", {classes[record.label]}" if classes and record.label >= 0 else "")]
    panels = [photograph]
    for layer, described in enumerate(metadata["layers"]):
        own = np.array(record.region_layers, np.int64) == layer
        total = sum(count for count, mine in zip(record.num_regions, own, strict=True) if mine)
        several = f" in {own.sum()} maps" if own.sum() > 1 else ""
        captions.append(f"{described['name']}: {total:,}{several}")
        panels.append(draw_regions(photograph, maps[own]))
    return Shown(record.image_id, tuple(captions), tuple(panels))


def draw_regions(
    photograph: UInt8[np.ndarray, "height width 3"], maps: UInt16[np.ndarray, "maps height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Lays regions over a photograph.

    The photograph is gray; each region lies on it in a colour of its own, half transparent, later label maps upon
    earlier ones. A pixel whose left or upper neighbour has another label in any of the maps is a boundary: white.
    """
    gray = photograph @ np.array([0.299, 0.587, 0.114])
    canvas = np.repeat(gray[..., None], 3, axis=2)
    boundary = np.zeros(gray.shape, bool)
    first = 0
    for label_map in maps:
        inside = label_map > 0
        colours = _colours(int(label_map.max(initial=0)), first)[label_map[inside]]
        canvas[inside] = (1 - OPACITY) * canvas[inside] + OPACITY * colours
        boundary[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
        boundary[1:] |= label_map[1:] != label_map[:-1]
        first += int(label_map.max(initial=0))
    canvas[boundary] = 255
    return canvas.round().astype(np.uint8)


def _colours(count: int, first: int) -> Float64[np.ndarray, "labels 3"]:
    """Colours 0 to 255 of labels 0..count; label 1 has the colour number `first`."""
    number = first - 1.0 + np.arange(count + 1)
    return 255 * hsv_to_rgb(
        np.stack([(number * GOLDEN + 0.55) % 1, 0.95 - number % 3 * 0.2, 1 - number % 2 * 0.25], axis=1)
    )


class _Page:
    """A picture to draw on, in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        fonts = [get_font(findfont(FontProperties(family=FONT, weight=weight))) for weight in ("normal", "bold")]
        self.glyphs = set.intersection(*({*font.get_charmap()} for font in fonts))

    def text(self, x: int, y: int, text: str, room: int, **style: Any) -> None:
        """Writes a line whose baseline is at height y, shortened in its middle to `room`."""
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
        """Draws pixels as they are."""
        self.figure.figimage(pixels, x, self.height - y - len(pixels))

    def axes(self, x: int, y: int, width: int, height: int) -> Axes:
        """Makes axes without a frame at the right and above."""
        size = width / self.width, height / self.height
        axes = self.figure.add_axes((x / self.width, 1 - y / self.height - size[1], *size))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        return axes


def _shortened(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def _draw(
    split: Split, metadata: dict[str, Any], statistics: Statistics, rows: Sequence[Sequence[Shown]], output: Path
) -> None:
    num_layers = len(metadata["layers"])
    panel = max(one.shape[1] for row in rows for shown in row for one in shown.panels)
    panel = max(panel, _columns(num_layers, len(rows[0]))[0])
    pitch = (panel + GAP) * (1 + num_layers) - GAP + SPACE
    width = max(HEADER_WIDTHS[num_layers > 0], pitch * len(rows[0]) - SPACE + 2 * MARGIN)
    heights = [2 * LINE + max(len(shown.panels[0]) for shown in row) + SPACE for row in rows]
    skipped = _skipped_lines(reading.skipped(split))
    top = MARGIN + 3 * LINE + (max(HISTOGRAM_HEIGHT, (num_layers + 3) * LINE) if num_layers else 0)
    height = top + sum(heights) + LINE * len(skipped) + MARGIN
    if height > MOST_PIXELS or width > MOST_PIXELS:
        raise PrepError(f"the picture would have {width}x{height} pixels, {MOST_PIXELS} a side at most; fewer --images")
    page = _Page(width, height)
    _draw_header(page, split, metadata, statistics)
    y = top
    for row, row_height in zip(rows, heights, strict=True):
        for number, shown in enumerate(row):
            x = MARGIN + number * pitch
            page.text(x, y + LINE - 8, shown.title, pitch - SPACE, weight="bold")
            for caption, pixels in zip(shown.captions, shown.panels, strict=True):
                page.text(x, y + 2 * LINE - 9, caption, panel - GAP, color=GRAY)
                page.image(x, y + 2 * LINE, pixels)
                x += panel + GAP
        y += row_height
    for number, line in enumerate(skipped):
        page.text(MARGIN, y + LINE * (number + 1) - 8, line, width - 2 * MARGIN, weight="normal" if number else "bold")
    partial = output.with_name(f".{output.name}")
    page.figure.savefig(partial, dpi=DPI, format="png", metadata={"Software": None})
    partial.replace(output)


def _draw_header(page: _Page, split: Split, metadata: dict[str, Any], statistics: Statistics) -> None:
    y = MARGIN + LINE - 8
    page.text(MARGIN, y, f"{split.name}, {split.split}", page.width - 2 * MARGIN, size=20, weight="bold")
    said = [f"images: {metadata['num_examples']:,}", f"skipped: {metadata['num_skipped']:,}"]
    said += [f"shards: {len(metadata['shard_lengths']):,}"] + ([] if metadata["layers"] else ["no regions"])
    y += LINE * 4 // 3
    page.text(MARGIN, y, "     ".join(said), page.width - 2 * MARGIN, size=12)
    if metadata["layers"]:
        _draw_table(page, y + LINE * 5 // 3, metadata, statistics)
        _draw_histograms(page, statistics)


def _draw_table(page: _Page, y: int, metadata: dict[str, Any], statistics: Statistics) -> None:
    heads = {"mean": 330, "min": 400, "median": 485, "max": 565, "median pixels": 690, "covered": 775}
    page.text(MARGIN + heads["mean"], y, "regions of an image", 300, color=GRAY, ha="center")
    page.text(MARGIN, y + LINE, "layer", 200, color=GRAY)
    for head, x in heads.items():
        page.text(MARGIN + x, y + LINE, head, 120, color=GRAY, ha="right")
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
        page.text(MARGIN, y, described["name"], 260, color=_layer_colour(layer), weight="bold")
        for x, cell in zip(heads.values(), cells, strict=True):
            page.text(MARGIN + x, y, cell, 100, ha="right")
        y += LINE
    sample = len(statistics.num_regions)
    if sample < metadata["num_examples"]:
        note = f"mean: of all images; the rest, and the histograms: of {sample:,} drawn at random"
        page.text(MARGIN, y, note, TABLE_WIDTH, color=GRAY, size=9)


def _draw_histograms(page: _Page, statistics: Statistics) -> None:
    pitch = (page.width - 2 * MARGIN - TABLE_WIDTH) // 2
    sizes, counts = (
        page.axes(MARGIN + TABLE_WIDTH + number * pitch + 70, MARGIN, pitch - 80, HISTOGRAM_HEIGHT) for number in (0, 1)
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


def _skipped_lines(skipped: Iterable[dict[str, str]]) -> list[str]:
    """Images left out, grouped by reason; numbers in a reason differ from image to image."""
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


def main() -> int:
    """Runs the command; returns its exit status."""
    flags = _parser().parse_args()
    report = progress.reporter()
    try:
        path = show(flags.dataset, flags.split, flags.output, num_images=flags.images, seed=flags.seed, report=report)
    except KeyboardInterrupt:
        report.close()
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (PrepError, OSError) as error:
        report.close()
        print(f"error: {error}", file=sys.stderr)
        return 1
    report.close()
    print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.show",
        description="Draws some photographs of a dataset with their regions, and what is known of all, as one PNG.",
    )
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="folder of the dataset")
    add("--split", default="train", help="the split to draw (default: %(default)s)")
    add("--output", type=Path, metavar="FILE.png", help="the picture (default: NAME-SPLIT.sheet.png in the dataset)")
    add("--images", type=int, default=12, metavar="N", help="number of photographs (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="decides which photographs (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The panels of one photograph on a sheet: the photograph and its regions, as pixels."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8, UInt16
from matplotlib.colors import hsv_to_rgb
from PIL import Image

from data_prep.dataset import records

OPACITY = 0.5  # of the regions' colours
GOLDEN = 0.6180339887  # hues that differ by this fraction of a turn are all distinct


@dataclasses.dataclass(frozen=True)
class RecordPanels:
    """The panels of one photograph, ready to be drawn.

    Attributes:
      title: the photograph's image_id.
      captions: the caption of each panel, below the title.
      panels: the photograph, then the photograph overlaid with the regions of each layer.
    """

    title: str
    captions: tuple[str, ...]
    panels: tuple[UInt8[np.ndarray, "h w 3"], ...]


def prepare(record: records.Record, metadata: dict[str, Any], width: int) -> RecordPanels:
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
    return RecordPanels(record.image_id, tuple(captions), tuple(panels))


def draw_regions(
    photograph: UInt8[np.ndarray, "height width 3"], maps: UInt16[np.ndarray, "maps height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Overlays regions on a photograph.

    The photograph becomes gray. Each region is drawn on it in its own colour, half transparent, later label maps over
    earlier ones. A pixel is a boundary, drawn in white, if its left or upper neighbour has another label in any map.
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
    """Returns the RGB colours, 0 to 255, of labels 0..count; label 1 has colour number `first`."""
    number = first - 1.0 + np.arange(count + 1)
    return 255 * hsv_to_rgb(
        np.stack([(number * GOLDEN + 0.55) % 1, 0.95 - number % 3 * 0.2, 1 - number % 2 * 0.25], axis=1)
    )

"""Data for a benchmark: photographs for training without labels, and composites of them with known ground truth.

    python -m benchmarks.composites --output=DIR [--seed=0] [--sheet=SHEET.png]

A composite is a part of a photographed scene with one to four cut-out photographs of objects pasted on it, so that
every pixel's object and class are known. Writes these files, with the same bytes for the same seed:

    train/photographs/NAME-PART.jpg             non-overlapping parts of whole photographs
    train/composites/NUMBER.jpg                 composites of the same scenes and of the training objects
    probe_train/NUMBER.png                      further composites of these scenes and objects
    probe_test/NUMBER.png                       composites of scenes and objects that are used nowhere else
    SET_instances/..., SET_classes/...          their ground truth: a PNG at each composite's path below its set
    SET.json                                    the scene and the objects of each composite in the set
    SOURCES                                     every photograph's file, package, licence, kind and set

Instances: 0 is the background, 1..n are the objects of an image. Classes: 0 is the background, 1.. are the others of
`package_photographs.CLASSES`.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps

from benchmarks.package_photographs import CLASSES, Photograph, cutouts, licence, others, scenes

SIDE = 192
SCENE_SIDE = 1280  # the longest permitted side of scenes and photographs
CUTOUT_SIDE = 256
PART_SIDE = 320  # the approximate side of a photograph's parts
LARGEST = (0.4, 0.7)  # longer side of a composite's largest object, as a fraction of SIDE
SMALLER = (0.5, 1.0)  # longer side of the other objects, as a fraction of the largest one's
DEGREES = 15
BRIGHTNESS = (0.85, 1.15)
LEAST_VISIBLE = 0.01
HELD_OUT = 0.3
TRAIN, PROBE_TRAIN, PROBE_TEST = "train", "probe_train", "probe_test"
SETS = (TRAIN, PROBE_TRAIN, PROBE_TEST)

# An object, pasted on a transparent canvas of the composite's size.
_Layer = tuple[Photograph, UInt8[np.ndarray, "side side 4"]]


@dataclasses.dataclass(frozen=True)
class Composite:
    """An image and its ground truth.

    Attributes:
      image: the RGB pixels.
      instances: the instance of each pixel: 0 is the background, 1..n are the objects.
      classes: the class of each pixel, as an index into CLASSES.
      scene: the photograph on which the objects are pasted.
      objects: the photographs of instances 1..n, in order.
    """

    image: UInt8[np.ndarray, "side side 3"]
    instances: UInt8[np.ndarray, "side side"]
    classes: UInt8[np.ndarray, "side side"]
    scene: Photograph
    objects: tuple[Photograph, ...]


class Composer:
    """A generator of composites from given scenes and objects, which are read once."""

    def __init__(self, scenes: Sequence[Photograph], objects: Sequence[Photograph]):
        self._scenes = [(one, read_photograph(one.path)) for one in scenes]
        self._objects: dict[str, list[tuple[Photograph, Image.Image]]] = defaultdict(list)
        for one in objects:
            self._objects[one.kind].append((one, read_cutout(one.path)))

    def compose(self, key: Sequence[int]) -> Composite:
        """Returns the composite of a key, such as (seed, set, index); equal keys give equal composites."""
        rng = np.random.default_rng(tuple(key))
        scene, photograph = self._scenes[rng.integers(len(self._scenes))]
        canvas = np.asarray(_part(rng, photograph), np.float32)
        layers: list[_Layer] = []
        while not layers:  # a single thin object may be too small
            layers = _visible(self._drawn(rng))
        instances = _topmost([layer[..., 3] > 127 for _, layer in layers])
        for _, layer in layers:
            alpha = layer[..., 3:] / np.float32(255)
            canvas = canvas * (1 - alpha) + layer[..., :3] * alpha
        kinds = [CLASSES.index(kind) for kind in ("background", *(one.kind for one, _ in layers))]
        return Composite(
            image=np.round(canvas).astype(np.uint8),
            instances=instances,
            classes=np.array(kinds, np.uint8)[instances],
            scene=scene,
            objects=tuple(one for one, _ in layers),
        )

    def _drawn(self, rng: np.random.Generator) -> list[_Layer]:
        layers, largest = [], rng.uniform(*LARGEST)
        # Classes are drawn first, so that all are equally frequent.
        for number, kind in enumerate(rng.choice(list(self._objects), size=rng.integers(1, 5))):
            one, cutout = self._objects[kind][rng.integers(len(self._objects[kind]))]
            layers.append((one, _placed(rng, cutout, largest * (rng.uniform(*SMALLER) if number else 1))))
        return [layers[place] for place in rng.permutation(len(layers))]


def read_photograph(path: Path) -> Image.Image:
    """Reads a photograph as upright RGB, shrunk to a longer side of at most SCENE_SIDE."""
    with Image.open(path) as image:
        image.thumbnail((SCENE_SIDE, SCENE_SIDE), Image.Resampling.LANCZOS)
        return ImageOps.exif_transpose(image).convert("RGB")


def read_cutout(path: Path) -> Image.Image:
    """Reads a cut-out as RGBA without its transparent margin, shrunk to a longer side of at most CUTOUT_SIDE."""
    with Image.open(path) as image:
        image = image.convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox())
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    return image


def _part(rng: np.random.Generator, photograph: Image.Image) -> Image.Image:
    """Returns a square of random position and size, resized to SIDE."""
    side = round(rng.uniform(min(SIDE, *photograph.size), min(photograph.size)))
    left, top = (rng.integers(whole - side + 1) for whole in photograph.size)
    part = photograph.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return ImageOps.mirror(part) if rng.integers(2) else part


def _placed(rng: np.random.Generator, cutout: Image.Image, part: float) -> UInt8[np.ndarray, "side side 4"]:
    """Returns a transparent canvas with the cut-out at a random place, its centre not near the edges."""
    scale = part * SIDE / max(cutout.size)
    cutout = cutout.resize([max(1, round(side * scale)) for side in cutout.size], Image.Resampling.LANCZOS)
    if rng.integers(2):
        cutout = ImageOps.mirror(cutout)
    cutout = cutout.rotate(rng.uniform(-DEGREES, DEGREES), Image.Resampling.BICUBIC, expand=True)
    brightness = rng.uniform(*BRIGHTNESS)
    centre = rng.uniform(0.15 * SIDE, 0.85 * SIDE, size=2)
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(cutout, tuple(round(at - side / 2) for at, side in zip(centre, cutout.size, strict=True)))
    pixels = np.array(canvas)
    pixels[..., :3] = np.minimum(np.round(pixels[..., :3] * brightness), 255)
    return pixels


def _visible(layers: list[_Layer]) -> list[_Layer]:
    """Removes objects that cover less than LEAST_VISIBLE of the image, one by one: each uncovers what is below it."""
    while layers:
        instances = _topmost([layer[..., 3] > 127 for _, layer in layers])
        shares = [np.mean(instances == number) for number in range(1, len(layers) + 1)]
        least = int(np.argmin(shares))
        if shares[least] >= LEAST_VISIBLE:
            break
        layers = layers[:least] + layers[least + 1 :]
    return layers


def _topmost(masks: Sequence[Bool[np.ndarray, "side side"]]) -> UInt8[np.ndarray, "side side"]:
    """Returns, for each pixel, the number from 1 of the last mask that contains it, 0 if none does."""
    instances = np.zeros((SIDE, SIDE), np.uint8)
    for number, mask in enumerate(masks, 1):
        instances[mask] = number
    return instances


def split(photographs: Sequence[Photograph], seed: int) -> tuple[list[Photograph], list[Photograph]]:
    """Splits the photographs of each kind into training photographs and held-out ones, about HELD_OUT of them.

    Files whose names begin with the same word, such as gnu-baby and gnu-stand, may show the same thing and are not
    separated.
    """
    train, test = [], []
    for kind in sorted({one.kind for one in photographs}):
        groups = defaultdict(list)
        for one in photographs:
            if one.kind == kind:
                groups[re.match("[a-z]*", one.name.lower())[0] or one.name].append(one)
        wanted = round(HELD_OUT * sum(map(len, groups.values())))
        held_out = 0
        for place in np.random.default_rng((seed, CLASSES.index(kind) if kind in CLASSES else 0)).permutation(
            len(groups)
        ):
            group = groups[sorted(groups)[place]]
            if held_out + len(group) <= wanted:
                test += group
                held_out += len(group)
            else:
                train += group
    return train, test


def write(
    output: Path,
    scenes: Sequence[Photograph],
    objects: Sequence[Photograph],
    others: Sequence[Photograph] = (),
    seed: int = 0,
    counts: tuple[int, int, int] = (900, 600, 200),
) -> None:
    """Writes the whole benchmark.

    Args:
      output: the folder to write to.
      scenes: the photographs on which objects are pasted.
      objects: the cut-out photographs.
      others: photographs used only for training without labels.
      seed: the seed of all random choices.
      counts: the numbers of composites for train, probe_train and probe_test.
    """
    train_scenes, test_scenes = split(scenes, seed)
    train_objects, test_objects = split(objects, seed)
    _write_parts(output / TRAIN / "photographs", [*train_scenes, *others])
    composer = Composer(train_scenes, train_objects)
    for number, (name, count) in enumerate(zip(SETS, counts, strict=True)):
        if name == PROBE_TEST:
            composer = Composer(test_scenes, test_objects)
        below, suffix = (Path("composites"), ".jpg") if name == TRAIN else (Path(), ".png")
        rows = {}
        for index in range(count):
            made = composer.compose((seed, number, index))
            file = below / f"{index:05}{suffix}"
            _save(made.image, output / name / file)
            _save(made.instances, output / f"{name}_instances" / file.with_suffix(".png"))
            _save(made.classes, output / f"{name}_classes" / file.with_suffix(".png"))
            objects_of = [{"class": CLASSES.index(one.kind), "name": one.name} for one in made.objects]
            rows[str(file)] = {"scene": made.scene.name, "objects": objects_of}
        (output / f"{name}.json").write_text(json.dumps({"classes": CLASSES, "composites": rows}, indent=1) + "\n")
    _write_sources(output / "SOURCES", [*train_scenes, *train_objects, *others], [*test_scenes, *test_objects])


def _write_parts(folder: Path, photographs: Sequence[Photograph]) -> None:
    """Cuts photographs into non-overlapping parts with sides of about PART_SIDE."""
    for one in photographs:
        image = read_photograph(one.path)
        columns, rows = (max(1, round(side / PART_SIDE)) for side in image.size)
        for part in range(columns * rows):
            x, y = part % columns, part // columns
            box = [image.width * x // columns, image.height * y // rows]
            box += [image.width * (x + 1) // columns, image.height * (y + 1) // rows]
            _save(np.asarray(image.crop(box)), folder / f"{one.package}-{one.name}-{part:02}.jpg")


def _write_sources(file: Path, train: Sequence[Photograph], test: Sequence[Photograph]) -> None:
    lines = [
        f"{one.path}\t{one.package}\t{licence(one)}\t{one.kind}\t{name}\n"
        for name, group in (("train, probe_train", train), ("probe_test", test))
        for one in group
    ]
    file.write_text("file\tpackage\tlicence\tkind\tset\n" + "".join(sorted(lines)))


def _save(pixels: UInt8[np.ndarray, "height width *channels"], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jpg":
        Image.fromarray(pixels).save(file, quality=95)
    else:
        Image.fromarray(pixels).save(file, compress_level=1)


def sheet(output: Path, name: str, count: int = 24) -> Image.Image:
    """Returns a picture of composites of a set next to their ground truth, drawn in colours."""
    columns = 4
    whole = Image.new("RGB", (columns * 3 * SIDE, -(-count // columns) * SIDE))
    colours = np.random.default_rng(0).integers(40, 256, size=(256, 3), dtype=np.uint8)
    colours[0] = 0
    for place, file in enumerate(sorted((output / name).rglob("*[0-9].png"))[:count]):
        x, y = place % columns * 3 * SIDE, place // columns * SIDE
        with Image.open(file) as image:
            whole.paste(image, (x, y))
        for column, kind in enumerate(("instances", "classes"), 1):
            with Image.open(output / f"{name}_{kind}" / file.name) as truth:
                whole.paste(Image.fromarray(colours[np.asarray(truth)]), (x + column * SIDE, y))
    return whole


def main() -> None:
    """Writes the benchmark from the installed packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="root folder of the packages' files (default: %(default)s)"
    )
    parser.add_argument(
        "--sheet", type=Path, help="file in which to draw composites of probe_test with their ground truth"
    )
    flags = parser.parse_args()
    try:
        write(flags.output, scenes(flags.root), cutouts(flags.root), others(flags.root), flags.seed)
    except OSError as error:
        sys.exit(f"error: {error}")
    if flags.sheet:
        sheet(flags.output, PROBE_TEST).save(flags.sheet)


if __name__ == "__main__":
    main()

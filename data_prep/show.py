"""Draws a sheet of a dataset's images and their regions, for inspection: `python -m data_prep.show DATASET`.

Prints the path of the picture. Exits with status 1 if there is nothing to draw, 2 after wrong usage.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np

from data_prep import command
from data_prep.dataset.index import read_index, read_record
from data_prep.dataset.metadata import read_complete_metadata
from data_prep.dataset.split import choose_split
from data_prep.errors import PrepError, one_line
from data_prep.progress import Bar, Lines
from data_prep.sheet.layout import columns, draw
from data_prep.sheet.panels import prepare
from data_prep.sheet.statistics import Statistics, count
from data_prep.storage.paths import AnyPath, parse_path

SAMPLE = 1000  # number of records that the statistics are computed from


def show(
    folder: AnyPath,
    split: str = "train",
    output: AnyPath | None = None,
    *,
    num_images: int = 12,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> AnyPath:
    """Draws a sheet of one split of a dataset; returns the path of the picture.

    Args:
      folder: the dataset's folder.
      split: the split's name.
      output: where to write the PNG; by default NAME-SPLIT.sheet.png in the dataset's folder.
      num_images: number of images to draw; all if there are fewer.
      seed: seed of the random choice of images.
      report: called with the number of records read and the total number to read.

    Raises:
      PrepError: an argument is wrong, or the file or dataset that it names is missing or corrupt.
      OSError: the picture cannot be written.
    """
    if num_images < 1 or seed < 0:
        raise PrepError(f"--images={num_images} --seed={seed}: give at least one image and a seed of at least 0")
    source = choose_split(folder, split)
    output = folder / f"{source}.sheet.png" if output is None else output
    if output.suffix != ".png":
        raise PrepError(f"{output}: the picture is a PNG; give a file name that ends in .png")
    if not output.parent.is_dir():
        raise PrepError(f"{output.parent}: no such folder; create it, or give another --output")
    metadata = read_complete_metadata(source)
    num_shards = len(metadata["shard_lengths"])
    index = read_index(source, num_shards)
    if not len(index):
        raise PrepError(f"{source.index_path}: {source} has no images")
    order = np.random.default_rng(seed).choice(len(index), min(len(index), max(SAMPLE, num_images)), replace=False)
    drawn = set(order[:num_images].tolist())
    panel_width, abreast = columns(len(metadata["layers"]), len(drawn))
    shown, counts = [], []
    for done, number in enumerate(np.sort(order).tolist()):
        report(done, len(order))
        record = read_record(source, num_shards, index, number)
        try:
            counts.append(count(record, len(metadata["layers"])))
            if number in drawn:
                shown.append(prepare(record, metadata, panel_width))
        except (ValueError, LookupError) as error:
            raise PrepError(
                f"{folder}: record {number} of {source}: {one_line(error)}; data_prep.verify reports more"
            ) from error
    report(len(order), len(order))
    statistics = Statistics(
        num_regions=np.stack([num_regions for num_regions, _, _ in counts]),
        sizes=tuple(np.concatenate(sizes) for sizes in zip(*(sizes for _, sizes, _ in counts), strict=True)),
        covered=np.stack([covered for _, _, covered in counts]),
    )
    draw(source, metadata, statistics, [shown[i : i + abreast] for i in range(0, len(shown), abreast)], output)
    return output


def main() -> int:
    """Runs the command; returns its exit status."""
    flags = _parser().parse_args()

    def work(report: Bar | Lines) -> tuple[list[str], int]:
        options = {"num_images": flags.images, "seed": flags.seed, "report": report}
        return [str(show(flags.dataset, flags.split, flags.output, **options))], 0

    return command.run(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.show",
        description="Draws a sample of a dataset's images with their regions, and statistics, as one PNG.",
    )
    add = parser.add_argument
    add("dataset", type=parse_path, metavar="DATASET", help="folder of the dataset")
    add("--split", default="train", help="the split to draw (default: %(default)s)")
    add(
        "--output",
        type=parse_path,
        metavar="FILE.png",
        help="the picture (default: NAME-SPLIT.sheet.png in the dataset)",
    )
    add("--images", type=int, default=12, metavar="N", help="number of images (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the choice of images (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Flags of `python -m data_prep`, with the names and defaults of `data_prep.plan.Options`."""

import argparse
import os

from data_prep.job import MAX_BAD
from data_prep.plan import DEFAULTS, REGIONS, Options
from data_prep.storage.paths import parse_path

RUNNERS = ("local", "beam")


def parse(arguments: list[str]) -> tuple[Options, argparse.Namespace]:
    """Parses a command line; exits with status 2 if it is invalid.

    Returns:
      The options that decide the dataset, and how to run the job: workers, runner, beam_options, max_bad, overwrite.
    """
    own, separator, behind = _split(arguments)
    parser = _parser()
    flags = parser.parse_args(own)
    if flags.runner == "beam":
        if flags.workers is not None:
            parser.error("--workers is for local processes; give Beam's own options after --")
    elif separator:
        parser.error("options after -- are Beam's; they need --runner=beam")
    flags.beam_options = behind if flags.runner == "beam" else None
    return Options(**{name: getattr(flags, name) for name in DEFAULTS}), flags


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    at = arguments.index("--")
    return arguments[:at], True, arguments[at + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        allow_abbrev=False,
        usage="%(prog)s (--images=DIR | --tfds=NAME:SPLIT | --webdataset=TARS) --output=DATASET [options] "
        "[-- BEAM OPTIONS]",
        description="Prepares images for R-MAE: adds region maps to them and writes TFRecord shards that TFDS can "
        "read. To resume a job that was killed, run the same command again.",
        epilog="docs/data.md has an example for every source of images and regions, and the rules for unusual images. "
        "python -m data_prep.verify DATASET checks a dataset, python -m data_prep.show DATASET draws it.",
    )
    images = parser.add_argument_group("images (give one of --images, --tfds, --webdataset)")
    images.add_argument("--images", type=parse_path, metavar="DIR", help="folder of image files, searched recursively")
    images.add_argument("--tfds", metavar="NAME:SPLIT", help="prepared TFDS dataset: coco/2017:train, or FOLDER:train")
    images.add_argument(
        "--webdataset", metavar="TARS", help="tar shards: 'train-{000000..000127}.tar', 'DIR/*.tar', or a folder"
    )
    images.add_argument(
        "--annotations",
        type=parse_path,
        metavar="FILE",
        help="COCO annotation file: of --images, only those it lists are used",
    )
    images.add_argument(
        "--classes", action="store_true", help="the folders directly below --images are classes (ImageNet)"
    )
    images.add_argument(
        "--tfds_dir", type=parse_path, metavar="DIR", help="folder of TFDS datasets (default: TFDS's own)"
    )
    regions = parser.add_argument_group("regions")
    regions.add_argument(
        "--regions",
        default=DEFAULTS["regions"],
        metavar="KIND[:PATH],...",
        help=f"one or several of {', '.join(REGIONS)}; or none. instances and panoptic take a COCO annotation file, "
        "label_maps and semantic a folder, sam a folder (without it: the JSON files next to the images) "
        "(default: %(default)s)",
    )
    regions.add_argument(
        "--scales",
        type=_scales,
        default=DEFAULTS["scales"],
        metavar="N,N,...",
        help="fh only: scale and minimum region size, in pixels, of each layer "
        f"(default: {','.join(map(str, DEFAULTS['scales']))})",
    )
    regions.add_argument(
        "--zero_is_region",
        action="store_true",
        help="label_maps only: 0 is a region like every other number, as in maps numbered from 0",
    )
    dataset = parser.add_argument_group("dataset")
    dataset.add_argument(
        "--output", type=parse_path, required=True, metavar="DATASET", help="folder of the dataset; splits share it"
    )
    dataset.add_argument("--name", default=DEFAULTS["name"], help="name of the dataset (default: %(default)s)")
    dataset.add_argument("--split", default=DEFAULTS["split"], help="name of the split (default: %(default)s)")
    dataset.add_argument("--shards", type=int, metavar="N", help="number of shards (default: one per 1,000 images)")
    dataset.add_argument(
        "--max_bad",
        type=float,
        default=MAX_BAD,
        metavar="FRACTION",
        help="largest fraction of the images that may be skipped as bad (default: %(default)s)",
    )
    dataset.add_argument(
        "--max_pixels",
        type=int,
        default=DEFAULTS["max_pixels"],
        metavar="N",
        help="images with more pixels count as bad; bounds a worker's memory (fh needs 140 bytes per pixel) "
        "(default: %(default)s)",
    )
    dataset.add_argument(
        "--overwrite", action="store_true", help="delete what an earlier run wrote for this split, and start again"
    )
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--runner",
        choices=RUNNERS,
        default="local",
        help="local processes, or Apache Beam with the options after -- (default: %(default)s)",
    )
    engine.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"number of local processes (default: {len(os.sched_getaffinity(0))}, one per CPU)",
    )
    return parser


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(scale) for scale in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 500,1000") from None

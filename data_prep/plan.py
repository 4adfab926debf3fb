"""The plan of a job: its images and regions, their description, and their division into shards."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from PIL import Image

from data_prep.dataset import inputs
from data_prep.dataset.inputs import Input
from data_prep.dataset.split import Split
from data_prep.errors import PrepError
from data_prep.regions.fh_source import FH
from data_prep.regions.instances import Instances
from data_prep.regions.label_maps import LabelMapFolder
from data_prep.regions.panoptic import Panoptic
from data_prep.regions.region_source import MapMaker, RegionSource
from data_prep.regions.sam import Sam
from data_prep.regions.semantic import Semantic
from data_prep.shards import Shard
from data_prep.sources.image_folder import open_classes, open_coco, open_folder
from data_prep.sources.source import Source
from data_prep.sources.tfds import open_tfds
from data_prep.sources.webdataset import open_webdataset
from data_prep.storage.paths import AnyPath, is_below, parse_path

REGIONS = ("fh", "instances", "panoptic", "sam", "label_maps", "semantic")
# Pillow refuses images of more than twice its own limit.
MOST_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
MOST_SHARDS = 99_999


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one split of a dataset: its sources, and everything else that decides its bytes.

    Exactly one of images, tfds and webdataset names the source of the images.

    Attributes:
      output: the dataset's folder; it may contain other splits.
      images: folder of image files, searched recursively.
      annotations: COCO annotation file that lists the images below `images`; without it, all of them are used.
      classes: whether the folders directly below `images` are classes, whose index becomes the label.
      tfds: a prepared TFDS dataset and its split, such as coco/2017:train or FOLDER:train.
      tfds_dir: folder of TFDS datasets; by default TFDS's own.
      webdataset: tar shards: a pattern such as train-{000000..000127}.tar, or a folder.
      name: the dataset's name, the same for all its splits.
      split: the split's name.
      regions: kinds of regions, KIND or KIND:PATH, separated by commas; "none" for a dataset without regions.
      scales: FH scales of "fh", one layer for each.
      shards: number of shards; None for one per 1,000 images or so, see `default_shards`.
      max_pixels: images with more pixels are skipped.
    """

    output: AnyPath
    images: AnyPath | None = None
    annotations: AnyPath | None = None
    classes: bool = False
    tfds: str | None = None
    tfds_dir: AnyPath | None = None
    webdataset: str | None = None
    name: str = "regions"
    split: str = "train"
    regions: str = "fh"
    scales: tuple[int, ...] = (500, 1000, 1500)
    zero_is_region: bool = False
    shards: int | None = None
    max_pixels: int = 1 << 26


DEFAULTS = {field.name: field.default for field in dataclasses.fields(Options)}


@dataclasses.dataclass(frozen=True)
class Job:
    """A planned job, which prepares one split of a dataset.

    Attributes:
      output: the dataset's folder.
      source: source of the images.
      regions: sources of the regions; empty for a dataset without regions.
      inputs: the input files, which together with `description` decide the bytes of the dataset.
      description: everything else that decides them; equal descriptions and inputs give equal files.
    """

    output: AnyPath
    source: Source
    regions: tuple[RegionSource, ...]
    inputs: tuple[Input, ...]
    description: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.description["name"]

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.description["split"]

    @property
    def place(self) -> Split:
        """Paths of the split's files."""
        return Split(self.output, self.name, self.split)

    @property
    def scratch(self) -> AnyPath:
        """Folder for temporary files and reports, deleted when the job is done."""
        return self.place.unfinished_path

    def shards(self, makers: tuple[MapMaker, ...]) -> list[Shard]:
        """Returns the work items: the images in order, divided into shards whose lengths differ by at most one.

        Args:
          makers: what `RegionSource.ready` returned for each source of regions.
        """
        count, total = self.description["num_shards"], self.source.num_images
        return [
            Shard(
                images=self.source.slice(i * total // count, (i + 1) * total // count),
                regions=makers,
                num_layers=len(self.description["layers"]),
                path=self.place.shard_path(i, count),
                scratch=self.scratch,
                max_pixels=self.description["max_pixels"],
            )
            for i in range(count)
        ]


def plan(options: Options) -> Job:
    """Checks the options and lists the images; writes nothing.

    Raises:
      PrepError: an option is wrong, there are no images, or a file that lists them is corrupt.
    """
    output = options.output
    if not re.fullmatch("[a-z][a-z0-9_]*", options.name):
        raise PrepError(f"name {options.name!r}: use lower-case letters, digits and underscores, a letter first")
    if not re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", options.split):
        raise PrepError(f"split {options.split!r}: use letters, digits and underscores, a letter first")
    if not 1 <= options.max_pixels <= MOST_PIXELS:
        raise PrepError(f"max_pixels {options.max_pixels} is not between 1 and {MOST_PIXELS}")
    if output.exists() and not output.is_dir():
        raise PrepError(f"{output} is a file; give a folder for the dataset")
    regions = open_regions(options)
    source = open_source(options)
    shards = default_shards(source.num_images) if options.shards is None else options.shards
    most = min(source.num_images, MOST_SHARDS)
    if not 1 <= shards <= most:
        raise PrepError(f"{shards} shards are not between 1 and {most}, for {source.num_images} images")
    read = (*source.inputs(), *(entry for part in regions for entry in _prefixed_inputs(part)))
    description = {
        "name": options.name,
        "split": options.split,
        "images": source.kind,
        "layers": [layer for part in regions for layer in part.layers],
        "classes": list(source.classes),
        "max_pixels": options.max_pixels,
        "num_shards": shards,
        "num_images": source.num_images,
        "inputs_sha256": inputs.digest(read),
    }
    return Job(output, source, regions, read, description)


def open_source(options: Options) -> Source:
    """Opens the source of the images.

    Raises:
      PrepError: no source or several are given, or the source contains no images.
    """
    given = [name for name in ("images", "tfds", "webdataset") if getattr(options, name) is not None]
    if len(given) != 1:
        what = "--images, --tfds or --webdataset"
        raise PrepError(f"give one of {what}, not " + (" and ".join(f"--{name}" for name in given) or "none"))
    if options.images is None:
        if options.annotations is not None or options.classes:
            raise PrepError(f"--annotations and --classes belong to --images, not to --{given[0]}")
        if options.tfds_dir is not None and options.tfds is None:
            raise PrepError(f"--tfds_dir belongs to --tfds, not to --{given[0]}")
        if options.tfds is not None:
            source = open_tfds(options.tfds, options.tfds_dir)
            if is_below(source.folder, options.output):
                raise PrepError(f"{options.output} holds the images of --tfds; give another --output")
            return source
        return open_webdataset(options.webdataset)
    if options.tfds_dir is not None:
        raise PrepError("--tfds_dir belongs to --tfds, not to --images")
    folder = options.images
    if is_below(folder, options.output):
        raise PrepError(f"{options.output} holds the images; give another --output")
    if options.annotations is not None:
        if options.classes:
            raise PrepError("give --annotations or --classes, not both")
        return open_coco(folder, options.annotations)
    return (open_classes if options.classes else open_folder)(folder, options.output)


def open_regions(options: Options) -> tuple[RegionSource, ...]:
    """Opens the sources of the regions, in the order in which they are named.

    Raises:
      PrepError: a kind is unknown or given twice, or lacks its path or scales.
    """
    if options.regions == "none":
        return ()
    parts = [kind.partition(":") for kind in options.regions.split(",")]
    kinds = [kind for kind, _, _ in parts]
    unknown = next((kind for kind in kinds if kind not in REGIONS), None)
    if unknown is not None:
        raise PrepError(f"unknown regions {unknown!r}; choose from {', '.join(REGIONS)}, or none")
    if len(set(kinds)) < len(kinds):
        raise PrepError(f"regions {options.regions}: give each kind only once")
    if "fh" not in kinds and options.scales != DEFAULTS["scales"]:
        raise PrepError(f"--scales belongs to fh, which is not among the regions {options.regions}")
    if options.zero_is_region and "label_maps" not in kinds:
        raise PrepError(f"--zero_is_region belongs to label_maps, which is not among the regions {options.regions}")
    return tuple(_open_regions(kind, parse_path(path) if path else None, options) for kind, _, path in parts)


def _open_regions(kind: str, path: AnyPath | None, options: Options) -> RegionSource:
    scales = tuple(options.scales)
    if kind == "fh":
        if path is not None:
            raise PrepError(f"regions fh:{path}: fh takes no path; choose its --scales")
        if not scales or min(scales) < 1 or len(set(scales)) < len(scales):
            raise PrepError(f"scales {','.join(map(str, scales))}: give different numbers of at least 1")
        return FH(scales)
    if kind == "sam" and (path is not None or options.tfds is None):
        return Sam(path or options.images)  # None: the masks are in the tar shards
    if kind == "instances":
        path = path or options.annotations
    if path is None:
        raise PrepError(f"regions {kind} need a path; give --regions={kind}:PATH")
    maps = {"label_maps": path, "semantic": path, "panoptic": path.with_suffix("")}.get(kind)
    listed = options.annotations is not None or options.images is None
    if maps is not None and not listed and is_below(maps, options.images):
        raise PrepError(
            f"regions {kind}:{path}: {maps} lies in the image folder; move it, or its maps would be read as images"
        )
    if kind == "label_maps":
        return LabelMapFolder(path, zero_is_region=options.zero_is_region)
    return {"instances": Instances, "panoptic": Panoptic, "semantic": Semantic}[kind](path)


def _prefixed_inputs(part: RegionSource) -> Iterator[Input]:
    """Yields the input files of a source of regions; the prefix tells them from image files of the same name."""
    for entry in part.inputs():
        yield entry._replace(name=f"{part.layers[0]['name']}:{entry.name}")


def default_shards(num_images: int) -> int:
    """Returns one shard per 1,000 images or so; more for a small dataset, so that up to 64 workers can share it."""
    return min(max(-(-num_images // 1000), min(64, -(-num_images // 8))), MOST_SHARDS)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Describes how an earlier job's options differ from this one's; None if they do not. Ignores the input files."""
    names = [[layer["name"] for layer in d.get("layers", [])] for d in (before, now)]
    if names[0] != names[1]:
        return f"layers {' '.join(names[0]) or 'none'}, now {' '.join(names[1]) or 'none'}"
    words = {"images": "images of kind", "num_shards": "shards"}
    for key in ("images", "layers", "classes", "max_pixels", "num_shards"):
        if before.get(key) != now[key]:
            return f"{words.get(key, key)} {before.get(key)}, now {now[key]}"
    return None

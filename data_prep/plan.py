"""The plan of a job: which images, how they are described, and how they are cut into shards."""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep import images as image_files
from data_prep.shards import Shard
from rmae_jax import tfrecord

REGIONS = ("fh", "none")
SCALES = (500, 1000, 1500)
SIGMA = 0.8
MAX_PIXELS = 1 << 26
# Pillow refuses more than twice its own limit.
MOST_PIXELS = 2 * Image.MAX_IMAGE_PIXELS


class PrepError(Exception):
    """Something that the user has to change; the message says what and how, in one line."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One split of a dataset to be prepared.

    Attributes:
      images: the image folder.
      output: the dataset's folder.
      image_ids: paths of the images below the folder, sorted.
      description: what decides the bytes of the dataset; equal descriptions give equal files.
    """

    images: Path
    output: Path
    image_ids: tuple[str, ...]
    description: dict[str, Any]

    @property
    def name(self) -> str:
        return self.description["name"]

    @property
    def split(self) -> str:
        return self.description["split"]

    @property
    def scratch(self) -> Path:
        """Folder for temporary files and reports, deleted when the job is done."""
        return self.output / f".{self.name}-{self.split}.unfinished"

    def shards(self) -> list[Shard]:
        """The work items: the images in order, cut into pieces whose lengths differ by one at most."""
        count, total = self.description["num_shards"], len(self.image_ids)
        scales = tuple(layer["scale"] for layer in self.description["layers"])
        return [
            Shard(
                images=self.images,
                image_ids=self.image_ids[i * total // count : (i + 1) * total // count],
                path=self.output / tfrecord.shard_name(self.name, self.split, i, count),
                scratch=self.scratch,
                scales=scales,
                max_pixels=self.description["max_pixels"],
            )
            for i in range(count)
        ]


def plan(
    images: Path,
    output: Path,
    *,
    name: str = "regions",
    split: str = "train",
    regions: str = "fh",
    scales: Sequence[int] = SCALES,
    shards: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Job:
    """Lists the images and checks the options; writes nothing.

    Args: see `data_prep.job.prepare`.

    Raises:
      PrepError: an option is wrong or there are no images.
    """
    images, output = Path(images), Path(output)
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise PrepError(f"name {name!r}: lower-case letters, digits and underscores, a letter first")
    if not re.fullmatch("[a-zA-Z][a-zA-Z0-9_]*", split):
        raise PrepError(f"split {split!r}: letters, digits and underscores, a letter first")
    if regions not in REGIONS:
        raise PrepError(f"regions {regions!r} are not known; choose one of {', '.join(REGIONS)}")
    if not scales or min(scales) < 1 or len(set(scales)) < len(scales):
        raise PrepError(f"scales {','.join(map(str, scales))}: different numbers, from 1 up, are needed")
    if not 1 <= max_pixels <= MOST_PIXELS:
        raise PrepError(f"max_pixels {max_pixels} is not between 1 and {MOST_PIXELS}")
    if output.exists() and not output.is_dir():
        raise PrepError(f"{output} is a file; give a folder for the dataset")
    if not images.is_dir():
        raise PrepError(f"{images} is not a folder; give the folder that holds the images")
    image_ids = tuple(image_files.find(images))
    if not image_ids:
        raise PrepError(f"no images below {images}; looked for {' '.join(sorted(image_files.SUFFIXES))}")
    if shards is None:
        shards = default_shards(len(image_ids))
    if not 1 <= shards <= min(len(image_ids), 99_999):
        raise PrepError(f"{shards} shards are not between 1 and the number of images, {len(image_ids)}")
    description = {
        "name": name,
        "split": split,
        "layers": [
            {"name": f"fh_{scale}", "method": "felzenszwalb", "scale": scale, "min_size": scale, "sigma": SIGMA}
            for scale in (scales if regions == "fh" else ())
        ],
        "max_pixels": max_pixels,
        "num_shards": shards,
        "num_images": len(image_ids),
        "images_sha256": _digest(images, image_ids),
    }
    return Job(images, output, image_ids, description)


def default_shards(num_images: int) -> int:
    """One for about 1,000 images; of a small dataset more, so that up to 64 workers share it."""
    return max(-(-num_images // 1000), min(64, -(-num_images // 8)))


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Says in what an earlier job's description (or metadata) differs from this one's, None if in nothing."""
    if all(before.get(key) == value for key, value in now.items()):
        return None
    names = [[layer["name"] for layer in d.get("layers", [])] for d in (before, now)]
    if names[0] != names[1]:
        return f"layers {' '.join(names[0]) or 'none'}, now {' '.join(names[1]) or 'none'}"
    for key, words in (("max_pixels", "max_pixels"), ("num_images", "number of images"), ("num_shards", "shards")):
        if before.get(key) != now[key]:
            return f"{words} {before.get(key)}, now {now[key]}"
    return "the image files were others (paths or sizes)"


def _digest(folder: Path, image_ids: Sequence[str]) -> str:
    """Of paths and sizes: enough to notice that the folder changed, without reading it twice."""
    digest = hashlib.sha256()
    for image_id in image_ids:
        path = folder / image_id
        size = path.stat().st_size if path.exists() else -1  # a link to nowhere
        digest.update(f"{image_id}\0{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()

"""The recipe: checks of its keys, durations in steps, the mesh's shape, and config.json in the run folder."""

import dataclasses
import json
import math
from pathlib import Path

import ml_collections

from data_prep.storage.atomic_write import atomic_write_text
from rmae_jax.model.remat import SAVED_BY_REMAT
from rmae_jax.model.validate import check as check_model

# Keys that a resumed run may change: they do not affect what is learned. Those of the second line change it by rounding
# only, as another number of devices does; runs older than these keys can be resumed. data.on_error matters only for
# corrupt records: a run that ended at one may resume without it.
FREE_KEYS = ("log_every", "checkpoint_every", "pictures_every", "data.path", "data.picture_split", "data.workers")
FREE_KEYS += ("mesh.data", "mesh.fsdp", "accumulation_steps", "remat", "attention", "blocks", "data.on_error")
FREE_KEYS += tuple(f"evaluate.{key}" for key in ("every", "tasks", "path", "train_split", "split", "region_layers"))
HOST_KEYS = ("data.path", "data.workers")  # may differ between hosts
REGION_SAMPLING = ("random", "foreground")
ON_ERROR = ("error", "skip")
REMAT = tuple(SAVED_BY_REMAT)
ATTENTION = ("auto", "plain", "kernel")
BLOCKS = ("auto", "scanned", "unrolled")


class ConfigError(ValueError):
    """A recipe whose keys are missing or do not fit each other, the machine or the dataset."""


@dataclasses.dataclass(frozen=True)
class Durations:
    """The lengths of a run and of its warm-up, in steps."""

    steps: int
    warmup_steps: int


def durations(config: ml_collections.ConfigDict, num_examples: int) -> Durations:
    """Converts epochs of `num_examples` examples to steps; `steps` and `warmup_steps`, if given, take precedence.

    Raises:
      ConfigError: the run has no steps, or its warm-up is not shorter than the run.
    """
    per_epoch = num_examples / config.batch_size
    steps = config.steps if config.steps is not None else round(config.epochs * per_epoch)
    warmup_steps = config.warmup_steps
    if warmup_steps is None:
        warmup_steps = round(config.warmup_epochs * per_epoch)
    if steps < 1:
        raise ConfigError(f"the run is {steps} steps long; give --config.steps or --config.epochs")
    if not 0 <= warmup_steps < steps:
        raise ConfigError(
            f"the warm-up ({warmup_steps} steps) must be shorter than the run ({steps} steps); "
            "give --config.warmup_steps or --config.warmup_epochs"
        )
    return Durations(steps, warmup_steps)


def check(config: ml_collections.ConfigDict, num_devices: int) -> None:
    """Checks a recipe as far as possible before any data is read.

    Raises:
      ConfigError: a key has an invalid value.
    """
    try:
        check_model(config.model)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not 0 <= config.seed < 1 << 32:
        raise ConfigError(f"seed is {config.seed}; it must be 0 to {(1 << 32) - 1}")
    for key in ("base_lr", "weight_decay"):
        if not 0 <= config[key] < math.inf:
            raise ConfigError(f"{key} is {config[key]}; it must be a finite number, at least 0")
    if config.data.workers < 0:
        raise ConfigError(f"data.workers is {config.data.workers}; it is a number of processes, or 0 for threads")
    mesh_shape(config, num_devices)
    if config.accumulation_steps < 1:
        raise ConfigError(f"accumulation_steps is {config.accumulation_steps}; it must be at least 1")
    parts = num_devices * config.accumulation_steps
    if config.batch_size < 1 or config.batch_size % parts:
        nearest = max(1, round(config.batch_size / parts)) * parts
        times = f" times accumulation_steps {config.accumulation_steps}" if config.accumulation_steps > 1 else ""
        raise ConfigError(
            f"batch_size {config.batch_size} is not divisible by the {num_devices} devices{times}; "
            f"for example --config.batch_size={nearest}"
        )
    for key, choices in (("remat", REMAT), ("attention", ATTENTION), ("blocks", BLOCKS)):
        if config[key] not in choices:
            raise ConfigError(f"{key} is {config[key]!r}; it must be one of {', '.join(choices)}")
    if config.blocks == "unrolled" and (config.remat != "none" or mesh_shape(config, num_devices)[1] > 1):
        raise ConfigError(
            'blocks is "unrolled", which takes the memory that remat and mesh.fsdp save; set it to "auto", '
            'or remat to "none" and mesh.fsdp to 1'
        )
    for key in ("log_every", "checkpoint_every", "pictures_every"):
        if config[key] < 1:
            raise ConfigError(f"{key} is {config[key]}; it is a number of steps, at least 1")
    if config.data.region_sampling not in REGION_SAMPLING:
        raise ConfigError(
            f"data.region_sampling is {config.data.region_sampling!r}; it must be one of {', '.join(REGION_SAMPLING)}"
        )
    if config.data.on_error not in ON_ERROR:
        raise ConfigError(f"data.on_error is {config.data.on_error!r}; it must be error or skip")
    num_patches = (config.model.image_size // config.model.patch_size) ** 2
    if not 1 <= config.data.min_region_patches <= num_patches:
        raise ConfigError(
            f"data.min_region_patches is {config.data.min_region_patches}; "
            f"it must be 1 to {num_patches}, the number of patches"
        )
    if not config.data.path and not config.data.shipped_photographs:
        raise ConfigError(
            "data.path is empty: create a dataset with `python -m data_prep --images=DIR --output=DATASET`, "
            "then give --config.data.path=DATASET"
        )


def names(listed: str) -> list[str]:
    """Splits a key such as data.region_layers, "a,b", into its names; each occurs once."""
    return list(dict.fromkeys(name for name in map(str.strip, listed.split(",")) if name))


def mesh_shape(config: ml_collections.ConfigDict, num_devices: int) -> tuple[int, int]:
    """Returns the sizes of the mesh's axes, (data, fsdp). mesh.data or mesh.fsdp may be -1: all remaining devices.

    Raises:
      ConfigError: they do not fit the number of devices.
    """
    data, fsdp = sizes = (config.mesh.data, config.mesh.fsdp)
    for key, size in zip(("data", "fsdp"), sizes, strict=True):
        if size < 1 and size != -1:
            raise ConfigError(f"mesh.{key} is {size}; it must be at least 1, or -1 for all remaining devices")
    if data == fsdp == -1:
        raise ConfigError("mesh.data and mesh.fsdp are both -1; one of them must be a number")
    data = num_devices // fsdp if data == -1 else data
    fsdp = num_devices // data if fsdp == -1 else fsdp
    if data * fsdp != num_devices:
        requested = f"mesh.data {sizes[0]} and mesh.fsdp {sizes[1]}"
        raise ConfigError(f"{requested} do not fit the {num_devices} device(s): their product must be that number")
    return data, fsdp


def save(config: ml_collections.ConfigDict, run: Path) -> None:
    """Writes a recipe to RUN/config.json."""
    atomic_write_text(run / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")


def load(run: Path) -> ml_collections.ConfigDict:
    """Reads the recipe of a run folder.

    Raises:
      ConfigError: the folder has no config.json, or it is not JSON.
    """
    path = run / "config.json"
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{run} is not a run folder: it has no config.json") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a recipe: it is no JSON object")
    return ml_collections.ConfigDict(content)


def check_resumed(config: ml_collections.ConfigDict, run: Path) -> None:
    """Checks that a recipe would learn the same as the run that it resumes.

    Raises:
      ConfigError: keys differ from the run's config.json; names them and both values.
    """
    if not (run / "config.json").exists():
        return
    before, now = flat(load(run).to_dict()), flat(config.to_dict())
    differing = [key for key in sorted(before | now) if key not in FREE_KEYS and before.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in differing)
        raise ConfigError(f"{run} holds a run with another config ({changes}); use another --workdir")


def shared_keys(config: ml_collections.ConfigDict) -> dict[str, str]:
    """Returns the keys of a recipe that all hosts must agree on, as facts for `host_consistency.check_equal`."""
    keys = {f"config.{key}": str(value) for key, value in flat(config.to_dict()).items() if key not in HOST_KEYS}
    return keys | {"config.data.path": "given" if config.data.path else ""}


def flat(tree: dict, prefix: str = "") -> dict:
    """Flattens nested keys, joined by dots: {"model": {"width": 768}} -> {"model.width": 768}."""
    joined = {}
    for key, value in tree.items():
        joined |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return joined

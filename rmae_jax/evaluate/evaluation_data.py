"""The input of an evaluation (dataset splits, seed, progress callback), and counts of steps and classes."""

import dataclasses
from collections.abc import Callable

from rmae_jax.data import DatasetError, TFRecordSource
from rmae_jax.data.examples import check_records

Report = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """Reports nothing."""


@dataclasses.dataclass(frozen=True)
class EvaluationData:
    """The splits of a dataset, the seed of all random choices, and a progress callback.

    Attributes:
      train: the split to train on.
      held_out: the held-out split to evaluate on.
      seed: the seed of every random choice.
      report: called with the number of steps done and their total.
    """

    train: TFRecordSource
    held_out: TFRecordSource
    seed: int = 0
    report: Report = ignore_progress


def check_classes(data: EvaluationData) -> None:
    """Checks that the images of both splits have classes, by the first image of each.

    Raises:
      DatasetError: a split has no images, or no classes.
    """
    for source in (data.train, data.held_out):
        check_records(source)
        if source[0].label < 0:
            raise DatasetError(
                f"{source.folder}: split {source.split!r} has no classes of images; prepare it from class folders with "
                "--classes"
            )


def check_training(epochs: float, batch_size: int) -> None:
    """Raises ValueError if the number of epochs or the batch size is not positive."""
    if batch_size < 1 or epochs <= 0:
        raise ValueError(f"batch_size is {batch_size} and epochs is {epochs}; both must be positive")


def num_steps(epochs: float, source: TFRecordSource, batch_size: int) -> int:
    """Returns the number of steps in `epochs` epochs, at least one."""
    return max(1, round(epochs * len(source) / batch_size))


def num_classes(*sources: TFRecordSource) -> int:
    """Returns one more than the largest class of any image."""
    return 1 + max(source[record].label for source in sources for record in range(len(source)))


def num_dense_classes(*sources: TFRecordSource) -> int:
    """Returns one more than the largest class of any pixel: the largest number in the maps of `semantic_source`."""
    return max(_largest_number(source, record) for source in sources for record in range(len(source)))


def _largest_number(source: TFRecordSource, record: int) -> int:
    (layer,) = source.layer_ids
    packed = source[record]
    return int(packed.regions[packed.region_layers.index(layer)].max())

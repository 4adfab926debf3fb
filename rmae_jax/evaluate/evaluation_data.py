"""What an evaluation looks at."""

import dataclasses
from collections.abc import Callable

from rmae_jax.data import TFRecordSource

Report = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Reports nothing."""


@dataclasses.dataclass(frozen=True)
class EvaluationData:
    """Splits of a dataset, the seed of all random choices, and whom progress is told.

    Attributes:
      train: what probes are trained on.
      held: what is judged on.
      seed: of every random choice.
      report: called with what is done and how much there is.
    """

    train: TFRecordSource
    held: TFRecordSource
    seed: int = 0
    report: Report = silent


def steps_of(epochs: float, source: TFRecordSource, batch_size: int) -> int:
    """The number of steps of so many epochs, at least one."""
    return max(1, round(epochs * len(source) / batch_size))


def num_classes(*sources: TFRecordSource) -> int:
    """One more than the largest class of any photograph."""
    return 1 + max(source[record].label for source in sources for record in range(len(source)))


def num_dense_classes(*sources: TFRecordSource) -> int:
    """One more than the largest class of any pixel, which is the largest number in the maps of `only_semantic`."""
    return max(_largest_number(source, record) for source in sources for record in range(len(source)))


def _largest_number(source: TFRecordSource, record: int) -> int:
    (layer,) = source.layer_ids
    packed = source[record]
    return int(packed.regions[packed.region_layers.index(layer)].max())

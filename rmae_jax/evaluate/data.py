"""What an evaluation looks at."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from rmae_jax import data
from rmae_jax.data import TFRecordSource
from rmae_jax.data.examples import Example

Report = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Reports nothing."""


@dataclasses.dataclass(frozen=True)
class Data:
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


def training_stream(examples: data.LabelledExamples, batch_size: int, seed: int) -> Iterator[Example]:
    """Augmented batches; a batch is a pure function of (seed, step)."""
    return data.stream(examples, seed=seed, batch_size=batch_size)


def steps_of(epochs: float, source: TFRecordSource, batch_size: int) -> int:
    """The number of steps of so many epochs, at least one."""
    return max(1, round(epochs * len(source) / batch_size))


def num_classes(*sources: TFRecordSource) -> int:
    """One more than the largest class of any photograph."""
    return 1 + max(source[record].label for source in sources for record in range(len(source)))


def num_dense_classes(*sources: TFRecordSource) -> int:
    """One more than the largest class of any pixel."""
    return max(
        int(np.max(maps, initial=0))
        for source in sources
        for record in range(len(source))
        for maps in [source[record].regions[list(map(source.layer_ids.__contains__, source[record].region_layers))]]
    )

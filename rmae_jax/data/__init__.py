"""The input pipeline: random access to records, augmentation, region sampling, and the stream of batches."""

from rmae_jax.data.batches import batches, stream
from rmae_jax.data.examples import center_examples
from rmae_jax.data.labelled_examples import LabelledExamples, labelled_batches, semantic_source
from rmae_jax.data.region_filter import RegionFilter
from rmae_jax.data.tfrecord_source import DatasetError, RecordError, TFRecordSource

__all__ = [
    "DatasetError",
    "LabelledExamples",
    "RecordError",
    "RegionFilter",
    "TFRecordSource",
    "batches",
    "center_examples",
    "labelled_batches",
    "semantic_source",
    "stream",
]

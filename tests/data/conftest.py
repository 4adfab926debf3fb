"""Fixtures of the data tests."""

from pathlib import Path

import pytest
from small_datasets import make_record, write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of ten records in three shards."""
    made = [make_record(number, height=40 + number, width=56 - number) for number in range(10)]
    return write_dataset(tmp_path / "dataset", [made[:4], made[4:5], made[5:]])

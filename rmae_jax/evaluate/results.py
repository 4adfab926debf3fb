"""The file evaluation.json of a run folder: the results, and everything that they depend on."""

import dataclasses
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_collections

from data_prep.storage.atomic_write import atomic_write_text, require_writable
from rmae_jax.data import TFRecordSource
from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.model import RMAE

IDENTITY = ("task", "step", "options", "image_size", "seed", "data")
VERSIONS = ("rmae-jax", "jax", "flax", "numpy")


def build_entry(
    name: str, task: Any, model: RMAE, step: int, data: EvaluationData, results: dict[str, Any]
) -> dict[str, Any]:
    """Builds the entry of one evaluation.

    Args:
      name: the task's name.
      task: the task with its options.
      model: the evaluated model.
      step: the checkpoint's step.
      data: the seed and the dataset's splits, whose fingerprints are saved.
      results: the task's results.
    """
    splits = {"train": data.train, "held": data.held_out}
    return {
        "task": name,
        "step": step,
        "results": results,
        "options": dataclasses.asdict(task),
        "image_size": model.config.image_size,
        "seed": data.seed,
        "data": {role: _describe(source) for role, source in splits.items()},
        "versions": {package: metadata.version(package) for package in VERSIONS},
    }


def write(path: Path, config: ml_collections.ConfigDict, evaluation: dict[str, Any]) -> None:
    """Adds an evaluation to an evaluation.json, which is created if missing.

    It replaces an evaluation of the same task, step, options, image size, seed and data.

    Raises:
      ValueError: the existing file is not an evaluation.json.
      OSError: the file cannot be written.
    """
    before = read(path)
    others = [one for one in before if _identity(one) != _identity(evaluation)]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"config": config.to_dict(), "evaluations": [*others, evaluation]}
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def check_writable(path: Path) -> None:
    """Checks before an evaluation that its results can be added to an evaluation.json.

    Raises:
      ValueError: the existing file is not an evaluation.json.
      OSError: the file cannot be written.
    """
    read(path)
    require_writable(path.parent)


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the evaluations in an evaluation.json; an empty list if there is no file.

    Raises:
      ValueError: the file is not an evaluation.json.
    """
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())["evaluations"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} has no list of evaluations; move or delete the file") from error


def _identity(one: dict[str, Any]) -> str:
    return json.dumps([one.get(key) for key in IDENTITY], sort_keys=True)


def _describe(source: TFRecordSource) -> dict[str, Any]:
    return {
        "folder": str(source.folder),
        "name": source.name,
        "split": source.split,
        "region_layers": list(source.region_layers),
        "records": len(source),
        "fingerprint": source.fingerprint,
    }

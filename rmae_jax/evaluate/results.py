"""evaluation.json of a run's folder: what was measured, and all that it depends on."""

import dataclasses
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_collections

from data_prep.storage.atomic_write import atomic_write_text
from rmae_jax.data import TFRecordSource
from rmae_jax.evaluate.evaluation_data import EvaluationData
from rmae_jax.model import RMAE

IDENTITY = ("task", "step", "options", "image_size", "seed", "data")
VERSIONS = ("rmae-jax", "jax", "flax", "numpy")


def entry(
    name: str, task: Any, model: RMAE, step: int, data: EvaluationData, results: dict[str, Any]
) -> dict[str, Any]:
    """What is kept of one evaluation.

    Args:
      name: of the task.
      task: with its options.
      model: that was judged.
      step: of the checkpoint.
      data: with the seed and the dataset's splits, whose fingerprints are kept.
      results: of the task.
    """
    splits = {"train": data.train, "held": data.held}
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


def write(run: Path, config: ml_collections.ConfigDict, made: dict[str, Any]) -> Path:
    """Adds an evaluation to RUN/evaluation.json; one of the same task, step, options, seed and data is replaced.

    Raises:
      ValueError: the file that is there is not one of these.
      OSError: it cannot be written.
    """
    path = run / "evaluation.json"
    before = read(path)
    kept = [one for one in before if _identity(one) != _identity(made)]
    content = {"config": config.to_dict(), "evaluations": [*kept, made]}
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The evaluations of a run; none if there is no file.

    Raises:
      ValueError: it is not an evaluation.json.
    """
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text())["evaluations"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no evaluations; move it away") from error


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

"""Evaluation during a training run: every N steps, and after the last step."""

import json
from pathlib import Path

import jax
import ml_collections
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree

from data_prep.storage.paths import local_path
from rmae_jax import evaluate
from rmae_jax.data import TFRecordSource
from rmae_jax.evaluate import results
from rmae_jax.model.shapes import abstract_model
from rmae_jax.runtime import hosts
from rmae_jax.training import ConfigError
from rmae_jax.training.mesh import local_copy
from rmae_jax.training.recipe import names


class PeriodicEvaluation:
    """Hook of the training loop that adds the results of config.evaluate.tasks to RUN/evaluation.json.

    Each task has the default options of `python -m rmae_jax.evaluate`. The tasks run on one device of host 0 while the
    other hosts wait, so long tasks are better run after training.
    """

    def __init__(self, config: ml_collections.ConfigDict, run: Path):
        """Opens the dataset of config.evaluate, if the recipe requests evaluations, and checks it for all tasks.

        Raises:
          ConfigError: RUN/evaluation.json is corrupt.
          DatasetError: the dataset cannot be used, or lacks what a task needs.
        """
        self._config, keys = config, config.evaluate
        self._tasks = {name: evaluate.TASKS[name]() for name in names(keys.tasks)} if keys.every else {}
        if self._tasks:
            folder, layers = local_path(keys.path or config.data.path), names(keys.region_layers)
            held_out = TFRecordSource(folder, keys.split, layers)
            needs_train = self._tasks.keys() != {"completion"}
            train = TFRecordSource(folder, keys.train_split, layers) if needs_train else held_out
            self._data = evaluate.EvaluationData(train, held_out, config.seed)
            for task in self._tasks.values():
                task.check(self._data)
            self._path = run / "evaluation.json"
            try:
                results.read(self._path)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            self._graphdef = abstract_model(config.model)[0]

    @staticmethod
    def check(config: ml_collections.ConfigDict) -> None:
        """Checks the keys of config.evaluate.

        Raises:
          ConfigError: a key has an invalid value.
        """
        keys, tasks = config.evaluate, names(config.evaluate.tasks)
        if keys.every < 0:
            raise ConfigError(f"evaluate.every is {keys.every}; it must be a number of steps, or 0 for no evaluations")
        unknown = [name for name in tasks if name not in evaluate.TASKS]
        if unknown:
            raise ConfigError(
                f"evaluate.tasks: unknown task {', '.join(unknown)}; the tasks are {', '.join(evaluate.TASKS)}"
            )
        if keys.every and not tasks:
            raise ConfigError(f"evaluate.tasks is empty; choose from {', '.join(evaluate.TASKS)}")
        if keys.every and not (keys.path or config.data.path):
            raise ConfigError("evaluate.path is empty; set the dataset to evaluate on: --config.evaluate.path=DATASET")
        if keys.every and "completion" in tasks and config.model.objective == "mae":
            raise ConfigError('evaluate.tasks has completion, but the "mae" objective has no region branch; remove it')

    def after_step(self, step: int, params: PyTree[jax.Array], mesh: Mesh, *, last: bool) -> None:
        """Evaluates the parameters if `step` is a multiple of evaluate.every or the last step. All hosts must call it.

        Raises:
          DatasetError: a record is corrupt or has no label.
          OSError: the results cannot be written.
        """
        if not self._tasks or (step % self._config.evaluate.every and not last):
            return
        params = local_copy(params, mesh)
        if not hosts.is_first():
            return
        model = nnx.merge(self._graphdef, params)
        for name, task in self._tasks.items():
            scores = task(model, self._data)
            results.write(self._path, self._config, results.build_entry(name, task, model, step, self._data, scores))
            hosts.print_once(f"step {step}: {name} {json.dumps(scores)}")

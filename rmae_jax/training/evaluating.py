"""Evaluations inside of a run: every so many steps, and at its end."""

import json
from pathlib import Path

import jax
import ml_collections
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree

from rmae_jax import data, evaluate
from rmae_jax.evaluate import results
from rmae_jax.training import hosts
from rmae_jax.training.abstract import abstract_model
from rmae_jax.training.config import names
from rmae_jax.training.mesh import local_copy


class Evaluated:
    """Adds what the tasks of config.evaluate find to RUN/evaluation.json, on host 0, on one device of its own.

    The tasks take the options that `python -m rmae_jax.evaluate` gives them by default. The other hosts wait, so that
    long ones are better run afterwards.
    """

    def __init__(self, config: ml_collections.ConfigDict, run: Path):
        """Opens the dataset of the evaluations, if there are any.

        Raises:
          DatasetError: it cannot be used.
        """
        self._config, self._run, asked = config, run, config.evaluate
        self._tasks = {name: evaluate.TASKS[name]() for name in names(asked.tasks)} if asked.every else {}
        if self._tasks:
            folder, layers = Path(asked.path or config.data.path), names(asked.region_layers)
            held = data.TFRecordSource(folder, asked.split, layers)
            judged_only = self._tasks.keys() == {"completion"}
            train = held if judged_only else data.TFRecordSource(folder, asked.train_split, layers)
            self._looked_at = evaluate.Data(train, held, config.seed)
            self._graphdef = abstract_model(config.model)[0]

    def after_step(self, step: int, params: PyTree[jax.Array], mesh: Mesh, *, last: bool) -> None:
        """Evaluates parameters where it is time to. All hosts must take part.

        Raises:
          DatasetError: a record is damaged or has no label.
          OSError: the results cannot be written.
        """
        if not self._tasks or (step % self._config.evaluate.every and not last):
            return
        params = local_copy(params, mesh)
        if not hosts.is_first():
            return
        model = nnx.merge(self._graphdef, params)
        for name, task in self._tasks.items():
            found = task(model, self._looked_at)
            results.write(self._run, self._config, results.entry(name, task, model, step, self._looked_at, found))
            hosts.say(f"step {step}: {name} {json.dumps(found)}")

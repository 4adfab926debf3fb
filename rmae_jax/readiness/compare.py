"""Estimates of one recipe on several topologies, each compiled in a process of its own."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import ml_collections

from rmae_jax.readiness import report, topologies
from rmae_jax.readiness.advice import ladder
from rmae_jax.readiness.topologies import Topology, TopologyError
from rmae_jax.training import recipe


def check(config: ml_collections.ConfigDict, names: Sequence[str], num_examples: int) -> list[Topology]:
    """Parses the names of topologies, and reports any error that can be found before the first compilation.

    Raises:
      TopologyError: a topology does not exist, or its compiler is not installed.
      ConfigError: the recipe does not fit one of them.
    """
    requested = [topologies.parse(name) for name in names]
    for topology in requested:
        topologies.check_installed(topology)
        recipe.check(_without_data(config), topology.num_chips)
    recipe.durations(config, num_examples)
    return requested


def rows(
    config: ml_collections.ConfigDict,
    requested: Sequence[Topology],
    num_examples: int,
    *,
    fit: bool = False,
    measure: Callable[[dict, Topology], dict] | None = None,
) -> Iterator[dict]:
    """Yields `report.numbers` of each topology.

    Args:
      config: the recipe.
      requested: the topologies.
      num_examples: the number of images per epoch.
      fit: whether to continue, if a step does not fit, with changes that need less memory (`advice.ladder`); their
        rows are yielded too.
      measure: `compiled_step.measure`; by default, it runs in another process.

    Raises:
      TopologyError: a step cannot be compiled.
    """
    measure = measure or measure_in_subprocess
    for topology in requested:
        for changes in [{}, *(ladder(config, topology.num_chips) if fit else [])]:
            changed = ml_collections.ConfigDict(config.to_dict() | changes)
            row = report.numbers(measure(changed.to_dict(), topology), changed, topology, num_examples)
            yield row
            if row["fits"]:
                break


def measure_in_subprocess(config: dict, topology: Topology) -> dict:
    """Runs `compiled_step.measure` in a process of its own, with the environment that topologies need.

    Raises:
      TopologyError: the step cannot be compiled; the message has the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result, stderr_file = (Path(folder, name) for name in ("request.json", "result.json", "stderr"))
        request.write_text(json.dumps({"config": config, "topology": topology.name}))
        command = [sys.executable, "-m", "rmae_jax.readiness.compiled_step", request, result]
        with stderr_file.open("w") as stderr:
            code = subprocess.run(command, env=os.environ | topologies.ENVIRONMENT, stderr=stderr).returncode
        if not result.exists():
            lines = stderr_file.read_text(errors="replace").splitlines()
            said = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)] or lines or ["no message"]
            raise TopologyError(f"compiling for {topology.name} failed ({code}): {said[-1][:500]}")
        found = json.loads(result.read_text())
    if "error" in found:
        raise TopologyError(found["error"])
    return found


def _without_data(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the recipe with a dataset: a step needs none, but the check of a recipe requires one."""
    config = ml_collections.ConfigDict(config.to_dict())
    config.data.path = config.data.path or "none"
    return config

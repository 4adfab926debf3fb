"""One recipe on several topologies, each compiled in a process of its own."""

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
    """The topologies of these names; whatever can be wrong before the first compilation is said here.

    Raises:
      TopologyError: a topology does not exist, or its compiler is not installed.
      ConfigError: the recipe does not fit one of them.
    """
    asked = [topologies.parse(name) for name in names]
    for topology in asked:
        topologies.check_installed(topology)
        recipe.check(_without_data(config), topology.num_chips)
    recipe.durations(config, num_examples)
    return asked


def rows(
    config: ml_collections.ConfigDict,
    asked: Sequence[Topology],
    num_examples: int,
    *,
    fit: bool = False,
    measure: Callable[[dict, Topology], dict] | None = None,
) -> Iterator[dict]:
    """Yields `report.numbers` of each topology.

    Args:
      config: the recipe.
      asked: the topologies.
      num_examples: photographs of an epoch.
      fit: go on, where a step does not fit, with what needs less memory (`advice.ladder`), and yield that too.
      measure: `step.measure`; by default in another process.

    Raises:
      TopologyError: a step could not be compiled.
    """
    measure = measure or compiled_elsewhere
    for topology in asked:
        for changes in [{}, *(ladder(config, topology.num_chips) if fit else [])]:
            changed = ml_collections.ConfigDict(config.to_dict() | changes)
            row = report.numbers(measure(changed.to_dict(), topology), changed, topology, num_examples)
            yield row
            if row["fits"]:
                break


def compiled_elsewhere(config: dict, topology: Topology) -> dict:
    """`step.measure` in a process of its own, whose environment is that of the topology.

    Raises:
      TopologyError: it could not be compiled; the message has the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result, complaints = (Path(folder, name) for name in ("request.json", "result.json", "stderr"))
        request.write_text(json.dumps({"config": config, "topology": topology.name}))
        command = [sys.executable, "-m", "rmae_jax.readiness.compiled_step", request, result]
        with complaints.open("w") as stderr:
            code = subprocess.run(command, env=os.environ | topologies.ENVIRONMENT, stderr=stderr).returncode
        if not result.exists():
            lines = complaints.read_text(errors="replace").splitlines()
            said = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)] or lines or ["no message"]
            raise TopologyError(f"compiling for {topology.name} failed ({code}): {said[-1][:500]}")
        found = json.loads(result.read_text())
    if "error" in found:
        raise TopologyError(found["error"])
    return found


def _without_data(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The recipe, as if it had a dataset: a step needs none, but the check of a recipe asks for one."""
    config = ml_collections.ConfigDict(config.to_dict())
    config.data.path = config.data.path or "none"
    return config

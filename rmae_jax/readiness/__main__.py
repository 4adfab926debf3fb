"""What a recipe needs on accelerators that are not here: memory, time, input, cost.

    python -m rmae_jax.readiness --config=configs/rmae_b.py --topology=v5e:16x16 [--topology=h100:8 ...]
                                 [--config.KEY=VALUE] [--num_examples=118287] [--fit] [--output=DIR]

Compiles the real training step for each topology and prints one table; no TPU or GPU is needed. TPUs take
`pip install -e .[tpu]`, GPUs .[cuda]. Minutes per topology. See docs/scaling.md.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from rmae_jax.readiness import topologies

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, a file of configs/.")
TOPOLOGY = flags.DEFINE_multi_string(
    "topology", [], "CHIP:SHAPE, as v5e:16x16, v5p:2x2x4, v6e:4x4, v4:2x2x1, h100:8; may be given several times."
)
NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", 118287, "Photographs of an epoch; COCO train2017's if not given.", lower_bound=1
)
FIT = flags.DEFINE_bool("fit", False, "Where a step does not fit, try what needs less memory until one does.")
OUTPUT = flags.DEFINE_string("output", None, "Folder to write readiness.md and readiness.json to.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them is one line, not a traceback."""
    try:
        positional = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise flags.Error("--config is required, for example --config=configs/rmae_b.py")
        CONFIG.value.keys()  # a file that could not be read is complained of only here
        if not TOPOLOGY.value:
            raise flags.Error("--topology is required, for example --topology=v5e:16x16")
        if positional[1:]:
            raise flags.Error(f"unexpected argument {positional[1]!r}; flags begin with --")
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    return positional


def main(argv: list[str]) -> None:
    """Reports as the flags say."""
    # Imported here, so that a wrong flag is answered at once.
    from rmae_jax.readiness import report, tables
    from rmae_jax.readiness.advice import ladder
    from rmae_jax.training import config as recipe

    config = CONFIG.value
    if not config.data.path and not config.data.shipped_photographs:
        config.data.path = "none"  # the step needs no dataset, but the check of a recipe for a run does
    try:
        asked = [topologies.parse(name) for name in TOPOLOGY.value]
        for topology in asked:  # all that can be wrong is said before the first compilation
            topologies.check_installed(topology)
            recipe.check(config, topology.num_chips)
        recipe.durations(config, NUM_EXAMPLES.value)
        if OUTPUT.value:
            Path(OUTPUT.value).mkdir(parents=True, exist_ok=True)
        rows = []
        for topology in asked:
            for changes in [{}, *(ladder(config, topology.num_chips) if FIT.value else [])]:
                changed = config.copy_and_resolve_references()
                changed.update(changes)
                found = compiled_elsewhere(changed.to_dict(), topology)
                rows.append(report.numbers(found, changed, topology, NUM_EXAMPLES.value))
                if rows[-1]["fits"]:
                    break
    except (recipe.ConfigError, topologies.TopologyError, OSError) as error:
        sys.exit(f"error: {error}")
    text = tables.table(rows)
    print(f"\n{text}", end="")
    if OUTPUT.value:
        Path(OUTPUT.value, "readiness.md").write_text(text)
        Path(OUTPUT.value, "readiness.json").write_text(json.dumps(rows, indent=2) + "\n")


def compiled_elsewhere(config: dict, topology: topologies.Topology) -> dict:
    """`step.measure` in a process of its own, whose environment is that of the topology.

    Raises:
      TopologyError: it could not be compiled; the message has the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result, complaints = (Path(folder, name) for name in ("request.json", "result.json", "stderr"))
        request.write_text(json.dumps({"config": config, "topology": topology.name}))
        command = [sys.executable, "-m", "rmae_jax.readiness.step", request, result]
        with complaints.open("w") as stderr:
            code = subprocess.run(command, env=os.environ | topologies.ENVIRONMENT, stderr=stderr).returncode
        if not result.exists():
            lines = complaints.read_text(errors="replace").splitlines()
            said = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)] or lines or ["no message"]
            raise topologies.TopologyError(f"compiling for {topology.name} failed ({code}): {said[-1][:500]}")
        found = json.loads(result.read_text())
    if "error" in found:
        raise topologies.TopologyError(found["error"])
    return found


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

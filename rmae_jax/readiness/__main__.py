"""Compiles a recipe's training step for accelerators without having them: memory, time, input, cost.

    python -m rmae_jax.readiness --config=configs/rmae_b.py --topology=v5e:16x16 [--topology=h100:8 ...]
                                 [--config.KEY=VALUE] [--num_examples=118287] [--fit] [--output=DIR]

Compiles the real training step for each topology, which takes minutes, and prints one table. No TPU or GPU is needed;
install the compiler for TPUs with `pip install -e .[tpu]`, that for GPUs with .[cuda]. See docs/scaling.md.
"""

import json
import sys
from functools import partial

from absl import app, flags
from ml_collections import config_flags

from data_prep.storage.atomic_write import atomic_write_text
from data_prep.storage.paths import local_path
from rmae_jax import recipe_flags
from rmae_jax.readiness import topologies

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, a file of configs/ or of your own.")
TOPOLOGY = flags.DEFINE_multi_string(
    "topology", [], "CHIP:SHAPE, such as v5e:16x16, v5p:2x2x4, v6e:4x4, v4:2x2x1, h100:8"
)
NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", 118287, "Images per epoch; the default is that of COCO train2017.", lower_bound=1
)
FIT = flags.DEFINE_bool("fit", False, "If a step does not fit, try changes that need less memory until one fits.")
OUTPUT = flags.DEFINE_string("output", None, "Folder to write readiness.md and readiness.json to.")


def main(argv: list[str]) -> None:
    """Prints the report that the flags request."""
    # Imported here, so that a wrong flag is reported at once.
    from rmae_jax.readiness import compare, tables
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.training import ConfigError

    silence_libraries()

    rows, output = [], OUTPUT.value and local_path(OUTPUT.value)
    try:
        requested = compare.check(CONFIG.value, TOPOLOGY.value, NUM_EXAMPLES.value)
        if output:
            output.mkdir(parents=True, exist_ok=True)
        for row in compare.rows(CONFIG.value, requested, NUM_EXAMPLES.value, fit=FIT.value):
            rows.append(row)
    except (ConfigError, topologies.TopologyError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:  # rows that were compiled before an error took minutes
        if rows:
            text = tables.table(rows)
            print(f"\n{text}", end="", flush=True)
            if output:
                atomic_write_text(output / "readiness.md", text)
                atomic_write_text(output / "readiness.json", json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    required = {"config": "configs/rmae_b.py", "topology": "v5e:16x16"}
    app.run(main, flags_parser=partial(recipe_flags.parse_flags, required=required))

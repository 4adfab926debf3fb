"""Pre-trains a masked autoencoder.

python -m rmae_jax --config=configs/rmae_b.py --workdir=RUN [--config.KEY=VALUE]
"""

import signal
import sys
from functools import partial
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from rmae_jax import recipe_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, a file of configs/ or of your own.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder; the default is runs/NAME-OF-CONFIG.")
# Needed where neither SLURM nor a TPU pod provides them:
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several hosts.")
NUM_HOSTS = flags.DEFINE_integer("num_hosts", None, "Number of hosts, one process each.", lower_bound=1)
HOST = flags.DEFINE_integer("host", None, "Index of this host, from 0.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Pre-trains a model according to the flags."""
    # Imported here, so that a wrong flag is reported at once.
    from data_prep.errors import DatasetError, PrepError
    from rmae_jax.evaluate.periodic import PeriodicEvaluation
    from rmae_jax.interop import InteropError
    from rmae_jax.runtime.allocator import keep_freed_memory
    from rmae_jax.runtime.compilation_cache import enable_compilation_cache
    from rmae_jax.runtime.hosts import HostError, connect_hosts
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.runtime.signals import Interrupted, StopSignals
    from rmae_jax.training import CheckpointError, ConfigError, TrainingError, pretrain

    silence_libraries()
    keep_freed_memory()
    workdir = WORKDIR.value or Path("runs", Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem)
    bad_input = (ConfigError, DatasetError, InteropError, PrepError)
    try:
        with connect_hosts(COORDINATOR.value, NUM_HOSTS.value, HOST.value):
            enable_compilation_cache()
            pretrain(CONFIG.value, workdir, evaluation=PeriodicEvaluation, stop_signals=StopSignals())
    except (*bad_input, CheckpointError, HostError, TrainingError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as stopped:
        print(stopped)
        sys.exit(0 if stopped.signum == signal.SIGTERM else 130)
    except KeyboardInterrupt:
        print("stopped at once; the same command resumes from the last checkpoint, if there is one")
        sys.exit(130)


if __name__ == "__main__":
    app.run(main, flags_parser=partial(recipe_flags.parse_flags, required={"config": "configs/rmae_tiny.py"}))

"""Pre-trains a masked autoencoder: python main.py --config=configs/rmae_b.py --workdir=RUN [--config.KEY=VALUE]"""

import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe to follow, a file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/NAME-OF-CONFIG if not given.")
# Where neither SLURM nor a TPU pod says it:
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first of several hosts.")
NUM_HOSTS = flags.DEFINE_integer("num_hosts", None, "Number of hosts, a process each.", lower_bound=1)
HOST = flags.DEFINE_integer("host", None, "Which of them this is, from 0.", lower_bound=0)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a config file or key that does not exist is one line, not a traceback."""
    try:
        positional = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise flags.Error("--config is required, for example --config=configs/rmae_tiny.py")
        CONFIG.value.keys()  # a file that could not be read is complained of only here
        if positional[1:]:
            raise flags.Error(f"unexpected argument {positional[1]!r}; flags begin with --")
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    return positional


def main(argv: list[str]) -> None:
    """Pre-trains as the flags say."""
    logging.set_verbosity(logging.FATAL)  # Orbax says a lot otherwise, also of errors that it raises
    # Imported here, so that a wrong flag is answered at once.
    from data_prep.job import PrepError
    from rmae_jax.data import DatasetError
    from rmae_jax.interop import InteropError
    from rmae_jax.training import (
        CheckpointError,
        ConfigError,
        HostError,
        Interrupted,
        TrainingError,
        connected,
        pretrain,
    )

    workdir = WORKDIR.value or Path("runs", Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem)
    bad_input = (ConfigError, DatasetError, InteropError, PrepError)
    try:
        with connected(COORDINATOR.value, NUM_HOSTS.value, HOST.value):
            pretrain(CONFIG.value, workdir)
    except (*bad_input, CheckpointError, HostError, TrainingError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as stopped:
        print(stopped)
        sys.exit(0 if stopped.signum == signal.SIGTERM else 130)
    except KeyboardInterrupt:
        print("stopped before the first step; nothing to save")
        sys.exit(130)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

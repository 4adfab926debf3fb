"""The lock of a run folder: only one run at a time writes to it."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from data_prep.storage.paths import file_lock
from rmae_jax.runtime import hosts
from rmae_jax.training.recipe import ConfigError

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what file systems without locks report


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Locks a run folder, which is created if missing, while entered. Host 0 holds the lock for all hosts.

    RUN/lock names the owner. The operating system releases the lock when the owner ends, even if it is killed.

    Raises:
      ConfigError: another process holds the lock, and the message names its host, its number and its start time; or
        `run` is a file.
    """
    if not hosts.is_first():
        yield
        return
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run} is a file; give the path of a folder as --workdir")
    run.mkdir(parents=True, exist_ok=True)
    file = run / LOCK
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(file, wait=False))
        except BlockingIOError as error:
            owner = file.read_text() or "another process"
            raise ConfigError(
                f"{run} is in use: {owner} is training there. Stop that process, or use another --workdir"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{run} cannot be locked ({error.strerror}): do not start another run there", flush=True)
            yield
            return
        if killed := file.read_text():
            print(f"{run} was in use by {killed}, which has not released it; taking over", flush=True)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        file.write_text(f"process {os.getpid()} on host {os.uname().nodename}, started {now},")
        try:
            yield
        finally:
            file.write_text("")

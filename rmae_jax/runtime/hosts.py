"""Several hosts, one process each: how they find each other, what they tell each other, and how they part.

Nothing here moves arrays between devices: hosts talk through the coordinator of jax.distributed, which works before
devices are looked for and after they are stuck.
"""

import contextlib
import dataclasses
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from rmae_jax.runtime.crash_message import CrashMessage
from rmae_jax.runtime.library_internals import (
    call_before_threads_join,
    is_tpu_pod,
    key_value_store,
    num_processes,
    process_id,
)
from rmae_jax.runtime.signals import Interrupted

CONNECT_SECONDS = 300  # within which all hosts must have started
HEARTBEAT_SECONDS = 30  # without a sign of life, after which a host is lost
WATCH_SECONDS = 2  # between looks at whether another host has failed
LINGER_SECONDS = 2 * WATCH_SECONDS  # for which a failed coordinator waits, so that the others learn why
_STATUS = "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): "
_FAILED = "rmae_jax/failed"  # key under which a host says why it ends


class HostError(RuntimeError):
    """A host is missing, is not like the others, or was lost; the message names it where that is known.

    `known` says that all hosts find it out for themselves.
    """

    def __init__(self, message: str, known: bool = False):
        super().__init__(message)
        self.known = known


@dataclasses.dataclass
class _Several:
    """What is kept while connected to other hosts."""

    last_words: CrashMessage
    advice: str = ""


_several: _Several | None = None


@contextlib.contextmanager
def connect_hosts(
    coordinator: str | None = None, num_hosts: int | None = None, host: int | None = None
) -> Iterator[None]:
    """While entered, this process is one of the hosts of a run. To be entered before devices are looked for.

    Without arguments, hosts are those of the SLURM step or TPU pod that the process is started in; otherwise it is the
    only one. If the body raises, the others are told why, and this process ends without waiting for them.

    Args:
      coordinator: HOST:PORT of host 0, a port that is free there.
      num_hosts: how many there are.
      host: which one this is, from 0.

    Raises:
      HostError: the arguments cannot be, or not all hosts have come after 5 minutes.
    """
    global _several
    start = _way_to_connect(coordinator, num_hosts, host)
    if start is None:
        yield
        return
    last_words = CrashMessage()
    last_words.set(  # JAX aborts where it cannot connect
        f"error: {os.uname().nodename}: not all hosts of the run came to its coordinator within {CONNECT_SECONDS} s; "
        "start the same command on each of them, and look whether they reach host 0"
    )
    # Of preemption, training/signals.py takes care.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        start()
    except (RuntimeError, ValueError) as error:
        last_words.close()
        raise HostError(f"the hosts of the run did not find each other: {first_line(error)}") from error
    if num_processes() == 1:
        last_words.close()
        yield
        return
    _several = _Several(last_words)
    remember("")
    threading.Thread(target=_watch, daemon=True).start()
    try:
        yield
    except BaseException as error:
        if isinstance(error, Interrupted):  # all of them, after the same step
            _part()
        else:
            _leave_at_once(error)
        raise
    _part()


def several() -> bool:
    """Whether other hosts take part."""
    return _several is not None


def is_first() -> bool:
    """Whether this is host 0, which writes what a run writes once; a process alone is."""
    return process_id() == 0


def say(line: str) -> None:
    """Prints a line, once for all hosts."""
    if is_first():
        print(line, flush=True)


def remember(advice: str) -> None:
    """What somebody should do if another host is lost; said with every such message."""
    if _several is not None:
        _several.advice = advice
        _several.last_words.set(
            f"error: {this_host()} ended without a word, because another host was lost or it was killed itself"
            + _advice()
        )


def is_of_devices(error: BaseException | None) -> bool:
    """Whether devices or what connects them failed; JAX raises a plain ValueError where arrays are fetched."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        type(error) is ValueError and re.match(_STATUS, str(error)) is not None
    )


def lost(error: Exception) -> HostError:
    """An error of the devices, as what it is when others take part: a host that is gone.

    Returns late: a host that ended for a reason is named by the thread that watches, which ends this process.
    """
    time.sleep(2 * WATCH_SECONDS)
    why = f"another host ended without a word, or cannot be reached ({first_line(error)})"
    return HostError(f"{this_host()}: {why}{_advice()}", known=True)


def this_host() -> str:
    """Names this host for a message."""
    return f"host {process_id()} ({os.uname().nodename})"


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some say after it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]


def _way_to_connect(coordinator: str | None, num_hosts: int | None, host: int | None) -> Callable[[], None] | None:
    """What connects this process to others; None if there are none."""
    seconds = {"initialization_timeout": CONNECT_SECONDS, "heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    given = [value is not None for value in (coordinator, num_hosts, host)]
    if any(given):
        if not all(given):
            raise HostError("--coordinator, --num_hosts and --host must be given together, or none of them")
        if not coordinator.rpartition(":")[0] or not coordinator.rpartition(":")[2].isdigit():
            raise HostError(f"--coordinator={coordinator} is not HOST:PORT")
        if not 0 <= host < num_hosts:
            raise HostError(f"--host={host} is not one of {num_hosts} hosts, counted from 0")
        if num_hosts == 1:
            return None
        return lambda: jax.distributed.initialize(
            coordinator, num_hosts, host, cluster_detection_method="deactivate", **seconds
        )
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun's; SLURM_NTASKS is there in a batch script too
        return lambda: jax.distributed.initialize(cluster_detection_method="slurm", **seconds)
    if is_tpu_pod():
        return lambda: jax.distributed.initialize(**seconds)
    return None


def _watch() -> None:
    """Ends this process when another has failed: collectives would wait for it, on some devices without end."""
    store, own = key_value_store(), f"{_FAILED}/{process_id()}"
    while (connection := _several) is not None:
        try:
            failed = store.key_value_dir_get(_FAILED)
        except jax.errors.JaxRuntimeError:  # the coordinator is gone, and JAX will end the process
            return
        if any(key == own for key, _ in failed):
            return
        if failed:
            connection.last_words.close()
            print(f"error: {failed[0][1]}{_advice()}", file=sys.stderr, flush=True)
            if is_first():
                time.sleep(LINGER_SECONDS)  # the others ask this process, too
            os._exit(1)
        time.sleep(WATCH_SECONDS)


def _leave_at_once(error: BaseException) -> None:
    """Tells the others; when Python exits, leaves without the goodbye of jax.distributed, which waits for them."""
    if not getattr(error, "known", False):
        why = first_line(error) if isinstance(error, HostError) else f"{this_host()} failed: {first_line(error)}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody is left to be told
            key_value_store().key_value_set(f"{_FAILED}/{process_id()}", why)
    _several.last_words.close()

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if is_first():
            time.sleep(LINGER_SECONDS)
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)

    # Not atexit: Python joins threads before that, and Orbax's may wait for a host that is gone.
    call_before_threads_join(leave)


def _part() -> None:
    global _several
    last_words, _several = _several.last_words, None
    last_words.set(f"error: {this_host()}: all is saved, but another host was lost in the end")  # should JAX abort
    try:
        jax.distributed.shutdown()
    except jax.errors.JaxRuntimeError as error:
        raise HostError(f"all is saved, but another host was lost in the end ({first_line(error)})") from error
    finally:
        last_words.close()


def _advice() -> str:
    return f"; {_several.advice}" if _several.advice else ""

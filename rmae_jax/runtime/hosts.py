"""Runs on several hosts, one process each: connecting, reporting failures, and disconnecting.

Nothing here moves arrays between devices. Hosts communicate through the coordinator of jax.distributed, which works
before devices are initialised and after they are stuck.
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
from rmae_jax.runtime.private_apis import (
    call_before_threads_join,
    is_tpu_pod,
    key_value_store,
    num_processes,
    process_id,
)
from rmae_jax.runtime.signals import Interrupted

CONNECT_SECONDS = 300  # within which all hosts must start
HEARTBEAT_SECONDS = 30  # without a sign of life from a host before it counts as lost
WATCH_SECONDS = 2  # between checks whether another host has failed
LINGER_SECONDS = 2 * WATCH_SECONDS  # that a failed coordinator waits, so that the others learn the reason
_STATUS = "(ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): "
_FAILED = "rmae_jax/failed"  # key under which a host stores why it ends


class HostError(RuntimeError):
    """A host that is missing, differs from the others, or was lost; the message names it if it is known.

    `known`: whether every host detects the error itself, so that it need not be reported to the others.
    """

    def __init__(self, message: str, known: bool = False):
        super().__init__(message)
        self.known = known


@dataclasses.dataclass
class _Connection:
    """The state of this process while it is connected to other hosts."""

    crash_message: CrashMessage
    advice: str = ""


_several: _Connection | None = None


@contextlib.contextmanager
def connect_hosts(
    coordinator: str | None = None, num_hosts: int | None = None, host: int | None = None
) -> Iterator[None]:
    """Connects this process to the other hosts of a run while entered. Enter it before JAX initialises devices.

    Without arguments, the hosts are those of the SLURM step or TPU pod in which the process was started; outside of
    these, the process is the only host. If the body raises, this process reports the reason to the other hosts and ends
    without waiting for them.

    Args:
      coordinator: HOST:PORT of host 0, where the port must be free.
      num_hosts: the number of hosts.
      host: the index of this host, from 0.

    Raises:
      HostError: the arguments are invalid, or not all hosts have connected after 5 minutes.
    """
    global _several
    start = _connector(coordinator, num_hosts, host)
    if start is None:
        yield
        return
    crash_message = CrashMessage()
    crash_message.set(  # JAX aborts where it cannot connect
        f"error: {os.uname().nodename}: not all hosts connected to the run's coordinator within {CONNECT_SECONDS} s; "
        "start the same command on each of them, and check that they can reach host 0"
    )
    # runtime/signals.py handles preemption.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        start()
    except (RuntimeError, ValueError) as error:
        crash_message.close()
        raise HostError(f"the hosts of the run could not connect to each other: {first_line(error)}") from error
    if num_processes() == 1:
        crash_message.close()
        yield
        return
    _several = _Connection(crash_message)
    set_advice("")
    threading.Thread(target=_watch, daemon=True).start()
    try:
        yield
    except BaseException as error:
        if isinstance(error, Interrupted):  # all of them, after the same step
            _disconnect()
        else:
            _leave_at_once(error)
        raise
    _disconnect()


def several() -> bool:
    """Returns whether other hosts take part in the run."""
    return _several is not None


def is_first() -> bool:
    """Returns whether this is host 0, which writes the files of a run; true for a single process."""
    return process_id() == 0


def print_once(line: str) -> None:
    """Prints a line on host 0 only."""
    if is_first():
        print(line, flush=True)


def set_advice(advice: str) -> None:
    """Sets the advice that is appended to every message about a lost host."""
    if _several is not None:
        _several.advice = advice
        _several.crash_message.set(
            f"error: {this_host()} ended without a report, because another host was lost or it was killed itself"
            + _advice()
        )


def is_device_error(error: BaseException | None) -> bool:
    """Returns whether devices or their links failed; JAX raises a plain ValueError when arrays are fetched."""
    return isinstance(error, jax.errors.JaxRuntimeError) or (
        type(error) is ValueError and re.match(_STATUS, str(error)) is not None
    )


def lost_host_error(error: Exception) -> HostError:
    """Converts an error of the devices to the error of a lost host, which it is if other hosts take part.

    Returns late: if a host ended for a reason, the watching thread reports it first and ends this process.
    """
    time.sleep(2 * WATCH_SECONDS)
    why = f"another host ended without a report, or cannot be reached ({first_line(error)})"
    return HostError(f"{this_host()}: {why}{_advice()}", known=True)


def this_host() -> str:
    """Returns the name of this host for a message."""
    return f"host {process_id()} ({os.uname().nodename})"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, which may have pages."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]


def _connector(coordinator: str | None, num_hosts: int | None, host: int | None) -> Callable[[], None] | None:
    """Returns the function that connects this process to other hosts; None if there are none."""
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
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # set by srun; SLURM_NTASKS is also set in a batch script
        return lambda: jax.distributed.initialize(cluster_detection_method="slurm", **seconds)
    if is_tpu_pod():
        return lambda: jax.distributed.initialize(**seconds)
    return None


def _watch() -> None:
    """Ends this process when another one has failed: collectives would wait for it, on some devices forever."""
    store, own = key_value_store(), f"{_FAILED}/{process_id()}"
    while (connection := _several) is not None:
        try:
            failed = store.key_value_dir_get(_FAILED)
        except jax.errors.JaxRuntimeError:  # the coordinator is gone, and JAX will end the process
            return
        if any(key == own for key, _ in failed):
            return
        if failed:
            connection.crash_message.close()
            print(f"error: {failed[0][1]}{_advice()}", file=sys.stderr, flush=True)
            if is_first():
                time.sleep(LINGER_SECONDS)  # the others query this process
            os._exit(1)
        time.sleep(WATCH_SECONDS)


def _leave_at_once(error: BaseException) -> None:
    """Reports the error to the other hosts; at exit, skips the shutdown of jax.distributed, which waits for them."""
    if not getattr(error, "known", False):
        why = first_line(error) if isinstance(error, HostError) else f"{this_host()} failed: {first_line(error)}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # no coordinator is left to store it
            key_value_store().key_value_set(f"{_FAILED}/{process_id()}", why)
    _several.crash_message.close()

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        if is_first():
            time.sleep(LINGER_SECONDS)
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)

    # Not atexit: Python joins threads before that, and those of Orbax may wait for a lost host.
    call_before_threads_join(leave)


def _disconnect() -> None:
    global _several
    crash_message, _several = _several.crash_message, None
    crash_message.set(
        f"error: {this_host()}: everything is saved, but another host was lost at the end"
    )  # if JAX aborts
    try:
        jax.distributed.shutdown()
    except jax.errors.JaxRuntimeError as error:
        raise HostError(f"everything is saved, but another host was lost at the end ({first_line(error)})") from error
    finally:
        crash_message.close()


def _advice() -> str:
    return f"; {_several.advice}" if _several.advice else ""

"""Processes of our commands, forked from a server that has imported their modules: importing them takes three seconds.

`start` is what tests call. The server is this file, run as a program; each process of the tests has one.
"""

import contextlib
import functools
import json
import os
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

NUMBER = struct.Struct("q")  # how the server reports a process: its number, and later its exit status


class Command:
    """A command's process, with the methods of subprocess.Popen that tests call. Output is stdout and stderr."""

    def __init__(self, report: int, output: int):
        self._report, self._output = os.fdopen(report, "rb", buffering=0), os.fdopen(output, "rb", buffering=0)
        self._text = b""
        self.returncode: int | None = None
        (self.pid,) = NUMBER.unpack(self._report.read(NUMBER.size))

    def poll(self) -> int | None:
        """Returns the exit status, negative for a signal; None while the process runs."""
        if self.returncode is None and _readable(self._report, 0):
            (self.returncode,) = NUMBER.unpack(self._report.read(NUMBER.size))
            self._report.close()
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Sends SIGKILL, unless the process has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """Waits for the end; returns (output, None), as Popen does without a stderr of its own.

        Raises:
          subprocess.TimeoutExpired: the process still runs after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._output.closed or self.poll() is None:
            ready = _readable(self._report if self._output.closed else self._output, deadline - time.monotonic())
            if not ready:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout, self._text)
            if not self._output.closed:
                chunk = self._output.read(1 << 16)
                self._text += chunk
                if not chunk:
                    self._output.close()
        return self._text.decode(), None


def start(arguments: list[str], **environment: str) -> Command | subprocess.Popen:
    """Starts `python ARGUMENTS` (main.py or -m MODULE, and flags) with these variables added to the environment."""
    # JAX reads its variables when it is imported; other systems cannot fork a process with loaded libraries safely.
    if any(name.startswith("JAX_") for name in environment) or sys.platform != "linux":
        together = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *arguments], env=os.environ | environment, **together)
    request = json.dumps({"arguments": arguments, "environment": dict(os.environ) | environment}, default=str)
    (report, written_report), (output, written_output) = os.pipe(), os.pipe()
    socket.send_fds(_server()[0], [request.encode()], [written_report, written_output])
    os.close(written_report)
    os.close(written_output)
    return Command(report, output)


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    """Starts the server, which ends with this process; returns the socket that takes requests, and the server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        program = [sys.executable, __file__, str(theirs.fileno())]
        return ours, subprocess.Popen(program, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL)


def _readable(stream: object, seconds: float) -> bool:
    """Returns whether a stream has something to read, or ends, within that time."""
    return bool(select.select([stream], [], [], max(seconds, 0))[0])


def _serve(requests: socket.socket) -> list[str] | None:
    """Forks for each request; reports the number and exit status of the new process.

    Returns a request's arguments in the process forked for it, and None in the server, at the end.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    selector.unregister(key.fd)
                    _report_exit(key.fd, *key.data)
                    continue
                request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 2)
                if not request:
                    return None
                report, output = descriptors
                if (process := os.fork()) == 0:
                    os.close(report)
                    return _become(json.loads(request), output)
                os.close(output)
                os.write(report, NUMBER.pack(process))
                selector.register(os.pidfd_open(process), selectors.EVENT_READ, (process, report))


def _become(request: dict, output: int) -> list[str]:
    """Gives this process the output and the environment of a request; returns the request's arguments."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    return request["arguments"]


def _report_exit(pidfd: int, process: int, report: int) -> None:
    """Sends the exit status of an ended process, and closes its descriptors."""
    os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the test may have ended
        os.write(report, NUMBER.pack(status))
    os.close(report)


def main() -> None:
    """Imports what main.py imports, serves, and runs the command of a request in the process forked for it."""
    import numpy as np
    from tracing import collect_less_garbage, skip_discarded_messages

    import rmae_jax.evaluate.periodic
    import rmae_jax.training  # noqa: F401
    from rmae_jax.data.bicubic import resize_bicubic
    from rmae_jax.data.crops import Crop

    skip_discarded_messages()
    resize_bicubic(np.zeros((8, 8, 3), np.uint8), Crop(0, 0, 8, 8), 8, 8)  # Numba loads its compiler at the first call
    collect_less_garbage()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        arguments = _serve(requests)
    if arguments is None:
        return
    sys.argv = arguments
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[:0] = [os.getcwd(), str(Path(__file__).parent)]
    main()

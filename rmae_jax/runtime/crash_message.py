"""Prints one diagnostic line if this process dies before it can report.

JAX aborts a process whose coordinator or neighbour is lost from within its own code, under a page of C++ frames; a
machine out of memory kills processes. A small child process then prints the one line that people look for.
"""

import subprocess
import sys
from contextlib import suppress

# Prints the last line received once the pipe closes, which it does however the writer ends. Omits an empty line.
_LISTENER = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a cluster sends it to every process
words = ""
for line in sys.stdin:
    words = line.strip()
if words:
    print(words, file=sys.stderr, flush=True)
"""


class CrashMessage:
    """A line that is printed to stderr if this process ends before `close`."""

    def __init__(self):
        self._listener = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LISTENER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # out of reach of Ctrl-C
        )

    def set(self, line: str) -> None:
        """Replaces the line to print."""
        with suppress(OSError, ValueError):  # the listener was killed, or closed by another thread
            self._listener.stdin.write(" ".join(line.split()) + "\n")
            self._listener.stdin.flush()

    def close(self) -> None:
        """Cancels the message."""
        self.set("")
        with suppress(OSError):
            self._listener.stdin.close()
        self._listener.wait()

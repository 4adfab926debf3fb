"""What a process leaves to be said of it, should it end in a way that lets it say nothing any more.

JAX ends a process whose coordinator or neighbour is lost by an abort within its own code, under a page of C++ frames; a
machine out of memory kills. A small process beside this one then says the one line that people look for.
"""

import subprocess
import sys
from contextlib import suppress

# Says the last line that came when the pipe ends, as it does however the writer ends. An empty line is not said.
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
    """A line for stderr, said if this process ends before `close`."""

    def __init__(self):
        self._listener = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LISTENER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # out of reach of Ctrl-C
        )

    def set(self, words: str) -> None:
        """Replaces what is to be said: one line."""
        with suppress(OSError, ValueError):  # the listener was killed, or closed by another thread
            self._listener.stdin.write(" ".join(words.split()) + "\n")
            self._listener.stdin.flush()

    def close(self) -> None:
        """Nothing will be said."""
        self.set("")
        with suppress(OSError):
            self._listener.stdin.close()
        self._listener.wait()

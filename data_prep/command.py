"""What all commands of data_prep share: progress reports, Ctrl-C, and errors in one line."""

import sys
from collections.abc import Callable, Iterable

from data_prep import progress
from data_prep.errors import PrepError

INTERRUPTED = 130  # exit status that shells use for a command ended by Ctrl-C
Work = Callable[[progress.Bar | progress.Lines], tuple[Iterable[str], int]]


def run(work: Work, failed: int = 1, interrupted: str = "interrupted") -> int:
    """Runs a command's work and prints its result; returns the exit status.

    Args:
      work: called with the progress reporter; returns the lines to print and the exit status.
      failed: exit status after a PrepError or an OSError, which is printed on standard error.
      interrupted: message printed after Ctrl-C.
    """
    report = progress.reporter()
    try:
        lines, status = work(report)
    except KeyboardInterrupt:
        report.close()
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except (PrepError, OSError) as error:
        report.close()
        print(f"error: {error}", file=sys.stderr)
        return failed
    report.close()
    for line in lines:
        print(line)
    return status

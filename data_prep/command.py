"""What the commands of data_prep have in common: progress, Ctrl-C, and errors in one line."""

import sys
from collections.abc import Callable, Iterable

from data_prep import progress
from data_prep.errors import PrepError

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
Work = Callable[[progress.Bar | progress.Lines], tuple[Iterable[str], int]]


def run(work: Work, failed: int = 1, interrupted: str = "interrupted") -> int:
    """Runs a command's work and prints what comes of it; returns the exit status.

    Args:
      work: called with what progress is reported to; returns the lines to print and the exit status.
      failed: exit status after a PrepError or an OSError, which is told on standard error.
      interrupted: what is told after Ctrl-C.
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

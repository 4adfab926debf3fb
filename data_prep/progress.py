"""Progress reports with rate and remaining time: a bar on a terminal, a line every ten seconds elsewhere."""

import shutil
import sys
import time

LINE_SECONDS = 10


def reporter(unit: str = "image") -> "Bar | Lines":
    """Returns the reporter that suits standard error; call it with the number done (earlier runs too) and the total."""
    return Bar(unit) if sys.stderr.isatty() else Lines(unit)


class Lines:
    """A progress reporter that prints lines, for logs."""

    def __init__(self, unit: str):
        self.unit = unit
        self.started_at = None
        self.done_before = 0
        self.printed_at = 0.0

    @property
    def started(self) -> bool:
        """Whether there was anything to do."""
        return self.started_at is not None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.started_at is None:
            self.started_at, self.done_before, self.printed_at = now, done, now
            print(f"{total} {self.unit}s" + (f", {done} of them already done" if done else ""), file=sys.stderr)
        elif now - self.printed_at >= LINE_SECONDS:
            rate = (done - self.done_before) / (now - self.started_at)
            left = f"{(total - done) / rate:.0f} s remaining" if rate else "remaining time unknown"
            print(f"{done} of {total} {self.unit}s, {rate:.1f} {self.unit}s/s, {left}", file=sys.stderr, flush=True)
            self.printed_at = now

    def close(self) -> None:
        """Does nothing: every line has ended."""


class Bar:
    """A progress reporter that draws a bar, for terminals."""

    def __init__(self, unit: str):
        self.unit = unit
        self.bar = None

    @property
    def started(self) -> bool:
        """Whether there was anything to do."""
        return self.bar is not None

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm  # imported here: a finished job need not wait for it

            columns, lines = shutil.get_terminal_size()  # tqdm prints nothing on a terminal that reports no size
            self.bar = tqdm(total=total, initial=done, unit=self.unit, smoothing=0.1, ncols=columns, nrows=lines)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Ends the bar and leaves it on the screen."""
        if self.bar is not None:
            self.bar.close()

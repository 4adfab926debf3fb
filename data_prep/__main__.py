"""Command line of data_prep: `python -m data_prep --images=DIR --output=DATASET`."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from data_prep.job import MAX_BAD, run
from data_prep.plan import MAX_PIXELS, REGIONS, SCALES, PrepError, plan

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended
LINE_SECONDS = 10


def main() -> int:
    """Runs the command; returns its exit status."""
    flags = _parser().parse_args()
    started = time.monotonic()
    progress = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        job = plan(
            flags.images,
            flags.output,
            name=flags.name,
            split=flags.split,
            regions=flags.regions,
            scales=flags.scales,
            shards=flags.shards,
            max_pixels=flags.max_pixels,
        )
        metadata = run(
            job,
            workers=flags.workers,
            max_bad=flags.max_bad,
            overwrite=flags.overwrite,
            progress=progress,
        )
    except KeyboardInterrupt:
        progress.close()
        print("interrupted: the same command resumes where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except (PrepError, OSError) as error:
        progress.close()
        print(f"error: {error}", file=sys.stderr)
        return 1
    progress.close()
    layers = zip(metadata["layers"], metadata["num_regions"], strict=True)
    regions = ", ".join(
        f"{layer['name']} {count / metadata['num_examples']:.1f} regions per image" for layer, count in layers
    )
    print(
        f"{metadata['num_examples']} images ({metadata['num_skipped']} skipped)"
        + (f", {regions}" if regions else "")
        + (f", in {time.monotonic() - started:.1f} s" if progress.started else ", finished already: nothing done")
        + f": {job.output}"
    )
    return 0


class _Lines:
    """Progress as a line every ten seconds, for logs."""

    def __init__(self):
        self.started = None
        self.done_before = 0
        self.printed = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.started is None:
            self.started, self.done_before, self.printed = now, done, now
            print(f"{total} images" + (f", {done} of them done before" if done else ""), file=sys.stderr)
        elif now - self.printed >= LINE_SECONDS:
            rate = (done - self.done_before) / (now - self.started)
            left = f"{(total - done) / rate:.0f} s left" if rate else "time left unknown"
            print(f"{done} of {total} images, {rate:.1f} images/s, {left}", file=sys.stderr, flush=True)
            self.printed = now

    def close(self) -> None:
        pass


class _Bar:
    """Progress as a bar, for terminals."""

    def __init__(self):
        self.bar = None

    @property
    def started(self) -> bool:
        return self.bar is not None

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            columns, lines = shutil.get_terminal_size()  # tqdm prints nothing on a terminal that gives no size
            self.bar = tqdm(total=total, initial=done, unit="image", smoothing=0.1, ncols=columns, nrows=lines)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep",
        description="Prepares photographs for R-MAE: finds their regions and writes TFRecord shards that TFDS "
        "reads. A run that was killed resumes when the same command is given again.",
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of image files, searched recursively")
    add("--output", type=Path, required=True, metavar="DATASET", help="folder of the dataset; splits share it")
    add("--name", default="regions", help="name of the dataset (default: %(default)s)")
    add("--split", default="train", help="name of the split (default: %(default)s)")
    add("--regions", default="fh", help=f"kind of regions: {' or '.join(REGIONS)} (default: %(default)s)")
    add(
        "--scales",
        type=_scales,
        default=SCALES,
        metavar="N,N,...",
        help=f"scale and smallest region, in pixels, of each layer (default: {','.join(map(str, SCALES))})",
    )
    add("--shards", type=int, metavar="N", help="number of shards (default: one for about 1,000 images)")
    add("--workers", type=int, metavar="N", help=f"number of processes (default: {_cpus()}, one for each CPU)")
    add(
        "--max_bad",
        type=float,
        default=MAX_BAD,
        metavar="FRACTION",
        help="largest fraction of the images that may be left out as bad (default: %(default)s)",
    )
    add(
        "--max_pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="images with more pixels count as bad (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="delete what an earlier run wrote for this split, and start anew")
    return parser


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(scale) for scale in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 500,1000") from None


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())

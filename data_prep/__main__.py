"""Command line of data_prep: `python -m data_prep --images=DIR --output=DATASET`."""

import sys
import time

from data_prep import flags, progress
from data_prep.errors import PrepError
from data_prep.job import run
from data_prep.plan import plan

INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


def main() -> int:
    """Runs the command; returns its exit status."""
    options, how = flags.parse(sys.argv[1:])
    started = time.monotonic()
    report = progress.reporter()
    try:
        metadata = run(
            plan(options),
            workers=how.workers,
            beam_options=how.beam_options,
            max_bad=how.max_bad,
            overwrite=how.overwrite,
            progress=report,
        )
    except KeyboardInterrupt:
        report.close()
        again = "the same command without --overwrite" if how.overwrite else "the same command"
        print(f"interrupted: {again} resumes where this one stopped", file=sys.stderr)
        return INTERRUPTED
    except (PrepError, OSError) as error:
        report.close()
        print(f"error: {error}", file=sys.stderr)
        return 1
    report.close()
    layers = zip(metadata["layers"], metadata["num_regions"], strict=True)
    regions = ", ".join(
        f"{layer['name']} {count / metadata['num_examples']:.1f} regions per image" for layer, count in layers
    )
    print(
        f"{metadata['num_examples']} images ({metadata['num_skipped']} skipped)"
        + (f", {regions}" if regions else "")
        + (f", in {time.monotonic() - started:.1f} s" if report.started else ", finished already: nothing done")
        + f": {options.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

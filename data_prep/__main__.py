"""The command line of data_prep: `python -m data_prep --images=DIR --output=DATASET`."""

import argparse
import sys
import time

from data_prep import command, flags
from data_prep.job import run
from data_prep.plan import Options, plan
from data_prep.progress import Bar, Lines


def main() -> int:
    """Runs the command; returns its exit status."""
    options, how = flags.parse(sys.argv[1:])
    again = "the same command without --overwrite" if how.overwrite else "the same command"
    return command.run(
        lambda report: (_prepare(options, how, report), 0),
        interrupted=f"interrupted: {again} resumes where this one stopped",
    )


def _prepare(options: Options, how: argparse.Namespace, report: Bar | Lines) -> list[str]:
    """Runs the job; returns notes about the source, and a one-line summary of the dataset."""
    started = time.monotonic()
    job = plan(options)
    metadata = run(
        job,
        workers=how.workers,
        beam_options=how.beam_options,
        max_bad=how.max_bad,
        overwrite=how.overwrite,
        progress=report,
    )
    layers = list(zip(metadata["layers"], metadata["num_regions"], strict=True))
    regions = ", ".join(
        f"{layer['name']} {count / metadata['num_examples']:.1f} regions per image" for layer, count in layers
    )
    summary = (
        f"{metadata['num_examples']} images ({metadata['num_skipped']} skipped)"
        + (f", {regions}" if regions else "")
        + (f", in {time.monotonic() - started:.1f} s" if report.started else ", already finished: nothing to do")
        + f": {options.output}"
    )
    empty = [layer["name"] for layer, count in layers if not count]
    return [
        *job.source.notes,
        *metadata.get("notes", ()),
        *(f"warning: layer {name} has no region in any image" for name in empty),
        summary,
    ]


if __name__ == "__main__":
    sys.exit(main())

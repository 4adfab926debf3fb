"""Writes a page of pictures that show what a checkpoint has learned: OUTPUT/index.html, one file.

    python -m rmae_jax.inspect --checkpoint=RUN --images=FILES_OR_FOLDERS... --output=DIR

Reconstructions, region completions, attention by head, PCA of features, similarity of patches and of region queries,
nearest neighbours, and the losses.
"""

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Writes the page as the arguments say."""
    parser = argparse.ArgumentParser(
        prog="python -m rmae_jax.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, help="a run's folder (newest step) or one step's")
    add(
        "--images",
        required=True,
        nargs="+",
        help="image files, folders (all images below) or patterns; at most 36 images",
    )
    add("--output", required=True, type=Path, help="a folder, made if it is not there")
    add(
        "--image_size", type=int, help="pixels of the shorter side, a multiple of the patch size (default: the model's)"
    )
    add("--mask_ratio", type=float, help="the part of the patches that is hidden (default: the model's)")
    add("--block", type=int, default=-1, help="of the encoder, whose attention is drawn, from 0 (default: the last)")
    add("--seed", type=int, default=0, help="of masks and of which regions are drawn (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace a page that is there")
    arguments = vars(parser.parse_args(_spaced(sys.argv[1:] if argv is None else argv)))
    if arguments["seed"] < 0:
        parser.error("argument --seed: it cannot be negative")

    # Imported here, so that a wrong flag is answered at once.
    from data_prep import progress
    from rmae_jax.inspect import write_page
    from rmae_jax.runtime.library_output import silence_libraries
    from rmae_jax.training import CheckpointError, ConfigError

    silence_libraries()

    report = progress.reporter("step")
    try:
        page = write_page(**arguments, report=report)
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigError, CheckpointError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    finally:
        report.close()
    print(page)


def _spaced(argv: list[str]) -> list[str]:
    """--images=A B as --images A B: argparse gives a flag with an equals sign one value only."""
    return [part for one in argv for part in (one.split("=", 1) if one.startswith("--images=") else [one])]


if __name__ == "__main__":
    main()

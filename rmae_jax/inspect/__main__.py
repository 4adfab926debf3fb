"""Writes a page of pictures that show what a checkpoint has learned, as one file: OUTPUT/index.html.

    python -m rmae_jax.inspect --checkpoint=RUN --images=FILES_OR_FOLDERS... --output=DIR

The page shows reconstructions, region completions, attention by head, PCA of features, similarity of patches and of
region queries, nearest neighbours, and the loss curve.
"""

import argparse
import sys

from data_prep.storage.paths import local_path


def main(argv: list[str] | None = None) -> None:
    """Writes the page that the command line requests."""
    parser = argparse.ArgumentParser(
        prog="python -m rmae_jax.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, type=local_path, help="a run folder (newest step) or one step's folder")
    add(
        "--images",
        required=True,
        nargs="+",
        help="image files, folders (all images in them and below) or patterns; at most 36 images",
    )
    add("--output", required=True, type=local_path, help="a folder, created if it does not exist")
    add(
        "--image_size", type=int, help="pixels of the shorter side, a multiple of the patch size (default: the model's)"
    )
    add("--mask_ratio", type=float, help="fraction of the patches that is masked (default: the model's)")
    add("--block", type=int, default=-1, help="encoder block whose attention is drawn, from 0 (default: the last)")
    add("--seed", type=int, default=0, help="seed of the masks and of the choice of regions (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace an existing page")
    arguments = vars(parser.parse_args(_split_images_flag(sys.argv[1:] if argv is None else argv)))
    if arguments["seed"] < 0:
        parser.error("argument --seed: must not be negative")

    # Imported here, so that a wrong flag is reported at once.
    from data_prep import progress
    from rmae_jax.inspect import write_page
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.training import CheckpointError, ConfigError

    silence_libraries()

    report = progress.reporter("step")
    try:
        page = write_page(**arguments, report=report, skipped=lambda line: print(line, file=sys.stderr))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigError, CheckpointError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    finally:
        report.close()
    print(page)


def _split_images_flag(argv: list[str]) -> list[str]:
    """Rewrites --images=A B as --images A B: argparse gives a flag with an equals sign only one value."""
    return [part for one in argv for part in (one.split("=", 1) if one.startswith("--images=") else [one])]


if __name__ == "__main__":
    main()

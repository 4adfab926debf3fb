"""Exports a checkpoint's weights to PyTorch.

    python -m rmae_jax.export --checkpoint=RUN --format=rmae|mae|timm|transformers --output=FILE

The output is a file whose name ends in .safetensors or .pth; for transformers it is a folder.
"""

import argparse
import sys

from data_prep.storage.paths import local_path

FORMATS = {
    "rmae": "all weights, named as in the authors' PyTorch release",
    "mae": "encoder and pixel decoder, for MAE's fine-tuning, detectron2's ViTDet, mmsegmentation",
    "timm": "encoder, for timm.create_model(..., num_classes=0)",
    "transformers": "encoder and pixel decoder, for ViTMAEForPreTraining and ViTMAEModel",
}


def main(argv: list[str] | None = None) -> None:
    """Runs the export command."""
    parser = argparse.ArgumentParser(
        prog="python -m rmae_jax.export",
        description=__doc__,
        epilog="\n".join(f"{name:13} {what}" for name, what in FORMATS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", type=local_path, required=True, help="a run folder (newest step) or a step's")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", required=True, type=local_path, help="a new .safetensors or .pth file, or folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    arguments = parser.parse_args(argv)

    # Imported here, so that errors in flags are reported without waiting for JAX.
    from rmae_jax import checkpoint_loading, interop
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.training import CheckpointError, ConfigError

    silence_libraries()

    try:
        model, _ = checkpoint_loading.load(arguments.checkpoint)
        state = interop.write(model, arguments.output, arguments.format, overwrite=arguments.overwrite)
    except (interop.InteropError, ConfigError, CheckpointError, OSError) as error:
        sys.exit(f"error: {error}")
    megabytes = sum(value.nbytes for value in state.values()) / 1e6
    print(f"{arguments.output}: {len(state)} tensors, {megabytes:.1f} MB, format {arguments.format}")


if __name__ == "__main__":
    main()

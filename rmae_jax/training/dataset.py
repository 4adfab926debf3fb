"""Where a run's dataset is, and the small one that needs no download."""

from pathlib import Path

import ml_collections

from data_prep import job, photographs


def dataset_folder(config: ml_collections.ConfigDict, run: Path) -> Path:
    """The folder that data.path names; without a path, the photographs that scikit-image ships, prepared in the run.

    Raises:
      PrepError: the photographs could not be prepared.
    """
    if config.data.path:
        return Path(config.data.path)
    folder = run / "data"
    photographs.write(folder / "photographs")
    for split in ("train", "validation"):
        job.prepare(images=folder / "photographs" / split, output=folder, name="photographs", split=split)
    return folder

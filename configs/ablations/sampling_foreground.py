"""Ablation: only regions with a visible patch are drawn.

python main.py --config=configs/ablations/sampling_foreground.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.data.region_sampling = "foreground"
    return config

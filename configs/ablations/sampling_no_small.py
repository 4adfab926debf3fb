"""Ablation: regions that touch only one patch are not drawn.

python main.py --config=configs/ablations/sampling_no_small.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.data.min_region_patches = 2
    return config

"""Ablation: K = 4 regions per image.

python main.py --config=configs/ablations/regions_04.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.num_regions = 4
    return config

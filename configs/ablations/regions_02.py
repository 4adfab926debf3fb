"""Ablation: K = 2 regions per image.

python main.py --config=configs/ablations/regions_02.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.num_regions = 2
    return config

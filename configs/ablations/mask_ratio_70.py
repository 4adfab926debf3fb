"""Ablation: both mask ratios are 0.7.

python main.py --config=configs/ablations/mask_ratio_70.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.mask_ratio = 0.7
    config.model.region_mask_ratio = 0.7
    return config

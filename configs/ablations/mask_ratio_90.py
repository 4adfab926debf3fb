"""Ablation: both mask ratios are 0.9.

python main.py --config=configs/ablations/mask_ratio_90.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.mask_ratio = 0.9
    config.model.region_mask_ratio = 0.9
    return config

"""Ablation: the regions' mask ratio is 0.9, the image's 0.75.

python main.py --config=configs/ablations/region_mask_ratio_90.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.region_mask_ratio = 0.9
    return config

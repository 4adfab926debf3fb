"""Ablation: background pixels have weight 0.5 in the region loss.

python main.py --config=configs/ablations/loss_background_50.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.background_weight = 0.5
    return config

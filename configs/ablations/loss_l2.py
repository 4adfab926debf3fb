"""Ablation: squared error of the region maps instead of cross-entropy.

python main.py --config=configs/ablations/loss_l2.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.region_loss = "l2"
    return config

"""Ablation: the region loss weighs half.

python main.py --config=configs/ablations/loss_lambda_050.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = rmae_b.get_config()
    config.model.region_loss_weight = 0.5
    return config

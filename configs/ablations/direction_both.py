"""Ablation: each branch feeds the other.

python main.py --config=configs/ablations/direction_both.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.feeding_direction = "both"
    return config

"""Ablation: the region branch feeds the pixel decoder, and not the reverse.

python main.py --config=configs/ablations/direction_region_to_pixel.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = rmae_b.get_config()
    config.model.feeding_direction = "region_to_pixel"
    return config

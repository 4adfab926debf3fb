"""Ablation: the region branch feeds the pixel decoder, but not the reverse.

python main.py --config=configs/ablations/direction_region_to_pixel.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.feeding_direction = "region_to_pixel"
    return config

"""Ablation: a region decoder with an ordinary block before the expansion block.

python main.py --config=configs/ablations/region_decoder_2.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.region_decoder_depth = 2
    return config

"""Ablation: an ordinary region decoder block before the expansion.

python main.py --config=configs/ablations/region_decoder_2.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = rmae_b.get_config()
    config.model.region_decoder_depth = 2
    return config

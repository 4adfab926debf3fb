"""Ablation: Felzenszwalb-Huttenlocher regions at one scale, 1500.

python main.py --config=configs/ablations/source_fh_1500.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.data.region_layers = "fh_1500"
    return config

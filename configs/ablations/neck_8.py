"""Ablation: a neck of 8 blocks, as in the PyTorch release.

python main.py --config=configs/ablations/neck_8.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.neck_depth = 8
    return config

"""Ablation: the regions' mask drawn by itself.

python main.py --config=configs/ablations/separate_masks.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = rmae_b.get_config()
    config.model.separate_masks = True
    return config

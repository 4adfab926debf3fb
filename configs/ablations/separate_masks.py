"""Ablation: the regions' mask is drawn independently of the image's.

python main.py --config=configs/ablations/separate_masks.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.separate_masks = True
    return config

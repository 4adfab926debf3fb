"""Ablation: the regions of an image decoded as the channels of one map.

python main.py --config=configs/ablations/variant_channel.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = rmae_b.get_config()
    config.model.region_variant = "channel"
    return config

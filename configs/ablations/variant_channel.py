"""Ablation: the region maps of an image are decoded as channels of one map (variant "channel").

python main.py --config=configs/ablations/variant_channel.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.region_variant = "channel"
    return config

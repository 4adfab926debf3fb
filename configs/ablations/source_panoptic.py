"""Ablation: regions are COCO's panoptic segments; the dataset is prepared with --regions=panoptic:FILE.

python main.py --config=configs/ablations/source_panoptic.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.data.region_layers = "panoptic"
    return config

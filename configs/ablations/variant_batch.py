"""Ablation: each region map is decoded separately (variant "batch").

python main.py --config=configs/ablations/variant_batch.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.region_variant = "batch"
    return config

"""MAE, ViT-B/16, COCO train2017: R-MAE's baseline, with the same recipe but without regions.

    python -m data_prep --images=COCO/train2017 --output=DATASET
    python main.py --config=configs/mae_b.py --workdir=RUN --config.data.path=DATASET

Trains on the same datasets as configs/rmae_b.py, or on ones prepared with --regions=none. The paper reports 50.1 box AP
and 44.6 mask AP on COCO after ViTDet fine-tuning.
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.objective = "mae"
    return config

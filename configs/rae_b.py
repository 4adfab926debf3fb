"""RAE, ViT-B/16, COCO train2017 with FH regions: region reconstruction only, without a pixel decoder.

    python -m data_prep --images=COCO/train2017 --output=DATASET
    python main.py --config=configs/rae_b.py --workdir=RUN --config.data.path=DATASET

The paper reports 47.2 box AP on COCO after ViTDet fine-tuning with FH regions.
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.objective = "rae"
    return config

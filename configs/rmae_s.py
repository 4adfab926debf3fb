"""R-MAE, ViT-S/16, COCO train2017 with FH regions: configs/rmae_b.py with a smaller encoder.

python -m data_prep --images=COCO/train2017 --output=DATASET
python main.py --config=configs/rmae_s.py --workdir=RUN --config.data.path=DATASET
"""

import ml_collections

from configs import rmae_b
from rmae_jax.model import vit_sizes


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.model.update(vit_sizes.encoder("S"))
    return config

"""R-MAE, ViT-B/16, ImageNet-1k with FH regions at one scale.

    python -m data_prep --images=IMAGENET/train --output=DATASET --scales=1000
    python main.py --config=configs/rmae_b_imagenet.py --workdir=RUN --config.data.path=DATASET

800 epochs of 1,281,167 images at batch size 4096 are 250,228 steps. The paper's final table is for 1600 epochs
(--config.epochs=1600): 52.3 box AP and 46.4 mask AP on COCO, 83.6 % top-1 on ImageNet after fine-tuning.
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.base_lr = 1.5e-4
    config.epochs = 800.0
    config.warmup_epochs = 40.0
    return config

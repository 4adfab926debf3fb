"""A small R-MAE on the photographs in scikit-image, for a first run on a laptop's CPU without a download.

    python main.py --config=configs/rmae_tiny.py

Prepares the photographs, trains for a few minutes on two cores, and writes the loss curve and pictures of held-out
crops to runs/rmae_tiny.
"""

import ml_collections

from configs import rmae_b


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = rmae_b.get_config()
    config.batch_size = 32
    config.steps = 1000
    config.base_lr = 1.2e-2
    config.warmup_steps = 100
    config.log_every = 25
    config.checkpoint_every = 500
    config.pictures_every = 250
    config.data.shipped_photographs = True
    config.data.picture_split = "validation"
    config.model.update(
        {
            "image_size": 96,
            "patch_size": 12,
            "width": 192,
            "depth": 4,
            "num_heads": 6,
            "decoder_width": 128,
            "decoder_depth": 2,
            "decoder_num_heads": 4,
            "region_width": 64,
            "region_num_heads": 4,
        }
    )
    return config

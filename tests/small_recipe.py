"""Keys of a recipe that trains within seconds, for tests."""

SMALL = {
    "batch_size": 4,
    "steps": 2,
    "warmup_steps": 1,
    "log_every": 1,
    "checkpoint_every": 2,
    "pictures_every": 100,
    "data.shipped_photographs": False,
    "data.picture_split": "train",
    "model.image_size": 32,
    "model.patch_size": 8,
    "model.width": 32,
    "model.depth": 2,
    "model.num_heads": 4,
    "model.decoder_width": 32,
    "model.decoder_depth": 1,
    "model.region_width": 16,
    "model.region_num_heads": 2,
    "model.num_regions": 3,
}

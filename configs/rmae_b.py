"""R-MAE, ViT-B/16, COCO train2017 with FH regions: the paper's main recipe.

    python -m data_prep --images=COCO/train2017 --output=DATASET
    python main.py --config=configs/rmae_b.py --workdir=RUN --config.data.path=DATASET

4000 epochs of 118,287 images at batch size 4096 are 115,515 steps, of which the first twelfth is the warm-up. The paper
reports 50.6 box AP and 45.0 mask AP on COCO after ViTDet fine-tuning, compared with 50.1 and 44.6 for MAE.

The comments below document every key. Keys can be set on the command line, for example --config.batch_size=256
--config.model.num_regions=16
"""

import ml_collections
from ml_collections.config_dict import placeholder

from rmae_jax.model import vit_sizes


def get_config() -> ml_collections.ConfigDict:
    """Returns the recipe."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of the initial weights, the masks, the order of records, and the augmentation
    config.batch_size = 4096  # images per step, over all devices
    config.epochs = 4000.0  # length of the run
    config.steps = placeholder(int)  # length of the run in steps; overrides epochs if set
    config.base_lr = 1e-4  # the peak learning rate is base_lr * batch_size / 256
    config.warmup_epochs = 4000 / 12  # length of the linear warm-up of the learning rate
    config.warmup_steps = placeholder(int)  # the same in steps; overrides warmup_epochs if set
    config.weight_decay = 0.05  # of AdamW; not applied to LayerNorm and biases
    config.init_from = ""  # initial weights: a file or folder in a layout that rmae_jax.interop reads; random if empty
    config.accumulation_steps = 1  # parts of a device's batch, computed in sequence; their gradients are averaged
    config.remat = "none"  # what the backward pass recomputes to save memory: "attention", or "full" for whole blocks
    config.attention = "auto"  # "kernel", which stores no scores, or "plain"; "auto": "kernel" on TPU, else "plain"
    # "scanned", a loop, or "unrolled", which is faster and compiles longer; "auto": "unrolled" on TPU without remat and
    # mesh.fsdp, else "scanned".
    config.blocks = "auto"
    config.log_every = 100  # steps between log lines
    config.checkpoint_every = 1000  # steps between checkpoints
    config.pictures_every = 5000  # steps between sample pictures

    config.mesh = ml_collections.ConfigDict()  # devices per axis; -1: all remaining devices
    config.mesh.data = -1  # data parallelism; the batch is split over this axis and the next
    config.mesh.fsdp = 1  # number of devices that parameters and the optimiser's state are sharded over

    config.data = ml_collections.ConfigDict()
    config.data.path = ""  # the dataset: a folder written by data_prep
    config.data.split = "train"  # the split to train on
    config.data.region_layers = ""  # label-map layers to draw regions from, such as fh_500,fh_1000; all if empty
    config.data.region_sampling = "random"  # "foreground": only regions with a visible patch (except in pictures)
    config.data.min_region_patches = 1  # patches that a region must touch; 2 excludes regions that touch only one
    config.data.picture_split = "train"  # the split of the images in RUN/pictures
    config.data.workers = 0  # processes that prepare batches; 0: threads of the main process
    config.data.on_error = "error"  # a corrupt record ends the run; "skip" replaces it by another and counts it
    config.data.shipped_photographs = False  # if path is empty, train on the photographs in scikit-image

    config.evaluate = ml_collections.ConfigDict()  # evaluation during training, into RUN/evaluation.json
    config.evaluate.every = 0  # steps between evaluations; another follows at the end of the run; 0: never
    config.evaluate.tasks = "completion"  # any of completion,knn,linear,segmentation,finetune
    config.evaluate.path = ""  # a dataset with the labels of these tasks; data.path if empty
    config.evaluate.train_split = "train"  # the split that probes are trained on
    config.evaluate.split = "validation"  # the split that scores are computed on
    config.evaluate.region_layers = ""  # label-map layers of the true regions; all if empty

    config.model = ml_collections.ConfigDict()
    config.model.objective = "rmae"  # pixels and regions; "mae": pixels only; "rae": regions only
    config.model.image_size = 224  # side of the square input, in pixels
    config.model.update(vit_sizes.encoder("B"))  # the encoder: width, depth, num_heads, patch_size
    config.model.decoder_width = 512  # width of the pixel decoder
    config.model.decoder_depth = 8  # blocks
    config.model.decoder_num_heads = 16
    # Distance of neighbouring patches in the position tables; 0.5 for twice the image size of the weights in init_from.
    config.model.position_scale = 1.0
    config.model.num_regions = 8  # K, the regions drawn per image in a step, 1 to 32
    # How regions are decoded: "length": as queries; "batch": as separate maps; "channel": as channels of one map.
    config.model.region_variant = "length"
    config.model.feeding_direction = "pixel_to_region"  # the branch that feeds the other; "region_to_pixel", "both"
    config.model.region_width = 128  # width of the region encoder, the region decoder and the neck
    config.model.region_num_heads = 8  # of the same
    config.model.region_encoder_depth = 1  # blocks
    config.model.region_decoder_depth = 1  # blocks; 1 is only the expansion block
    config.model.neck_depth = 1  # blocks between the encoder and the region decoder
    config.model.mask_ratio = 0.75  # masked fraction of the image's patches
    config.model.region_mask_ratio = 0.75  # masked fraction of the region maps' patches
    config.model.separate_masks = False  # False: both masks use one permutation; True: the regions' has its own
    config.model.region_loss = "cross_entropy"  # of the region maps; or "l2"
    config.model.region_loss_weight = 1.0  # lambda, in loss = pixel loss + lambda * region loss
    config.model.background_weight = 1.0  # weight of background pixels in the region loss; 1 for foreground pixels
    config.model.norm_pix_loss = True  # pixel targets are normalised by each patch's mean and variance
    config.model.dtype = "auto"  # of activations: bfloat16 on TPU and GPU, float32 on CPU; weights are float32
    return config

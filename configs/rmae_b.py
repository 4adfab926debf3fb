"""R-MAE, ViT-B/16, COCO train2017 with FH regions: the paper's main recipe.

    python -m data_prep --images=COCO/train2017 --output=DATASET
    python main.py --config=configs/rmae_b.py --workdir=RUN --config.data.path=DATASET

4000 epochs of 118,287 photographs at batch 4096 are 115,515 steps, the first twelfth of them the warm-up. The paper
reports 50.6 box AP and 45.0 mask AP on COCO after ViTDet fine-tuning, against MAE's 50.1 and 44.6.

Any key can be changed on the command line: --config.batch_size=256 --config.model.num_regions=16
"""

import ml_collections
from ml_collections.config_dict import placeholder

from rmae_jax.model import vit_sizes


def get_config() -> ml_collections.ConfigDict:
    """The recipe."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.batch_size = 4096  # over all devices
    config.epochs = 4000.0
    config.steps = placeholder(int)  # where given, counts instead of epochs
    config.base_lr = 1e-4  # the learning rate is base_lr * batch_size / 256
    config.warmup_epochs = 4000 / 12
    config.warmup_steps = placeholder(int)  # where given, counts instead of warmup_epochs
    config.weight_decay = 0.05  # not on LayerNorm and biases
    config.init_from = ""  # weights to start from: a file or folder in any layout that rmae_jax.interop reads
    config.accumulation_steps = 1  # parts of a device's batch, one after the other; their gradients are averaged
    config.remat = "none"  # computed twice to save memory: "attention", or "full": all inside of blocks
    config.attention = "auto"  # as a "kernel" on TPU, which keeps no scores, and "plain" elsewhere
    config.blocks = "auto"  # "unrolled" on TPU, faster and compiled longer, but not with remat or fsdp; else "scanned"
    config.log_every = 100  # steps; so are the next two
    config.checkpoint_every = 1000
    config.pictures_every = 5000

    config.mesh = ml_collections.ConfigDict()  # devices; -1 is what is left of them
    config.mesh.data = -1  # the batch is split over both axes
    config.mesh.fsdp = 1  # parts that parameters and the optimiser's state are cut into, each on another device

    config.data = ml_collections.ConfigDict()
    config.data.path = ""  # a folder that data_prep wrote
    config.data.split = "train"
    config.data.region_layers = ""  # label-map layers to draw from, as fh_500,fh_1000; all of the dataset's if empty
    config.data.region_sampling = "random"  # "foreground": only regions with a visible patch; pictures show any
    config.data.min_region_patches = 1  # 2 leaves out regions that touch a single patch
    config.data.picture_split = "train"  # of the photographs in RUN/pictures
    config.data.workers = 0  # processes that read; 0 reads in threads
    config.data.on_error = "error"  # a damaged record ends the run; "skip" takes another in its place and counts it
    config.data.shipped_photographs = False  # without a path, train on the photographs that scikit-image ships

    config.evaluate = ml_collections.ConfigDict()  # into RUN/evaluation.json
    config.evaluate.every = 0  # steps, and at the end; 0 for never
    config.evaluate.tasks = "completion"  # some of completion,knn,linear,segmentation,finetune
    config.evaluate.path = ""  # a dataset with their labels; data.path if empty
    config.evaluate.train_split = "train"  # that probes are trained on
    config.evaluate.split = "validation"  # that is judged on
    config.evaluate.region_layers = ""  # label-map layers that hold the truth; all of them if empty

    config.model = ml_collections.ConfigDict()
    config.model.objective = "rmae"  # "mae": pixels alone; "rae": regions alone
    config.model.image_size = 224
    config.model.update(vit_sizes.encoder("B"))  # width, depth, num_heads, patch_size
    config.model.decoder_width = 512
    config.model.decoder_depth = 8
    config.model.decoder_num_heads = 16
    config.model.position_scale = 1.0  # of position tables; 0.5 at twice the image size that init_from was trained at
    config.model.num_regions = 8  # K, drawn for each image
    config.model.region_variant = "length"  # regions as queries; as a "batch" or as "channel"s of dense maps
    config.model.feeding_direction = "pixel_to_region"  # or "region_to_pixel", or "both"
    config.model.region_width = 128
    config.model.region_num_heads = 8
    config.model.region_encoder_depth = 1
    config.model.region_decoder_depth = 1  # the expansion block alone
    config.model.neck_depth = 1
    config.model.mask_ratio = 0.75
    config.model.region_mask_ratio = 0.75
    config.model.separate_masks = False  # True draws the regions' mask by itself; False by the image's permutation
    config.model.region_loss = "cross_entropy"  # or "l2"
    config.model.region_loss_weight = 1.0  # lambda
    config.model.background_weight = 1.0  # of background pixels in the region loss; foreground pixels weigh 1
    config.model.norm_pix_loss = True
    config.model.dtype = "auto"  # of activations: bfloat16 on TPU and GPU, float32 on CPU; weights are float32
    return config

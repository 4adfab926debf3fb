"""The layout of transformers' ViTMAE, which has other names than MAE's, and separate q, k and v.

`from_mae` returns the names of the published files (facebook/vit-mae-base), which transformers 4 and 5 read. `to_mae`
accepts these, and the names of transformers 5's models in memory.
"""

import json
import re
from pathlib import Path

import ml_collections
import numpy as np
from jaxtyping import Shaped

from rmae_jax.interop.errors import InteropError, join_names
from rmae_jax.interop.layout import StateDict
from rmae_jax.model.image_normalization import IMAGENET_MEAN, IMAGENET_STD

Tensors = dict[str, Shaped[np.ndarray, "..."]]  # of a file, before their types are checked

# Prefixes of names: MAE's -> transformers'.
PREFIXES = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj.": "vit.embeddings.patch_embeddings.projection.",
    "blocks.": "vit.encoder.layer.",
    "norm.": "vit.layernorm.",
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.decoder_pos_embed",
    "decoder_embed.": "decoder.decoder_embed.",
    "decoder_blocks.": "decoder.decoder_layers.",
    "decoder_norm.": "decoder.decoder_norm.",
    "decoder_pred.": "decoder.decoder_pred.",
}
# Names within a block: MAE's -> transformers'.
BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
QKV = ("query", "key", "value")
# Patterns of names of transformers 5's models in memory -> the published names, some of which save_pretrained restores.
SYNONYMS = {
    r"^vit\.layers\.": "vit.encoder.layer.",
    r"^decoder\.decoder_encoder\.layer\.": "decoder.decoder_layers.",
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
}


def from_mae(state: StateDict) -> StateDict:
    """Converts a state dict of the "mae" layout to the published names of ViTMAEForPreTraining."""
    renamed = {}
    for name, value in state.items():
        if match := re.fullmatch(r"(.*blocks\.\d+\.)attn\.qkv\.(weight|bias)", name):
            for part, third in zip(QKV, np.split(value, 3), strict=True):
                renamed[_outer(f"{match[1]}attention.attention.{part}.{match[2]}")] = np.ascontiguousarray(third)
        elif match := re.fullmatch(r"(.*blocks\.\d+\.)(.+)\.(weight|bias)", name):
            renamed[_outer(f"{match[1]}{BLOCK_NAMES[match[2]]}.{match[3]}")] = value
        else:
            renamed[_outer(name)] = value
    return renamed


def to_mae(state: Tensors) -> Tensors:
    """Converts a state dict of ViTMAEForPreTraining or ViTMAEModel to the "mae" layout; returns any other unchanged.

    Raises:
      InteropError: one of a block's q, k and v is missing or has another shape.
    """
    if any(name.startswith("embeddings.") for name in state):  # ViTMAEModel
        state = {f"vit.{name}": value for name, value in state.items()}
    if not any(name.startswith("vit.") for name in state):
        return state
    renamed, qkv_parts = {}, {}
    inner = {theirs: mae for mae, theirs in BLOCK_NAMES.items()}
    for published, value in _published(state).items():
        name = _inverse_outer(published)
        if match := re.fullmatch(r"(.*blocks\.\d+\.)attention\.attention\.(query|key|value)\.(weight|bias)", name):
            qkv_parts.setdefault(f"{match[1]}attn.qkv.{match[3]}", {})[match[2]] = value
        elif (match := re.fullmatch(r"(.*blocks\.\d+\.)(.+)\.(weight|bias)", name)) and match[2] in inner:
            renamed[f"{match[1]}{inner[match[2]]}.{match[3]}"] = value
        else:
            renamed[name] = value
    for name, parts in qkv_parts.items():
        if missing := [part for part in QKV if part not in parts]:
            raise InteropError(f"{name} lacks {join_names(missing)}; transformers' ViTMAE stores q, k and v separately")
        shapes = {part: parts[part].shape for part in QKV}
        if len(set(shapes.values())) > 1:
            raise InteropError(f"{name} cannot be joined from query, key and value of different shapes: {shapes}")
        renamed[name] = np.concatenate([np.atleast_1d(parts[part]) for part in QKV])
    return renamed


def write_configs(folder: Path, config: ml_collections.ConfigDict) -> None:
    """Writes config.json, from which from_pretrained builds the model, and preprocessor_config.json, for its images.

    Args:
      folder: the folder that contains model.safetensors.
      config: `config.model` of the model whose weights are in the folder.
    """
    model = {
        "architectures": ["ViTMAEModel" if config.objective == "rae" else "ViTMAEForPreTraining"],
        "model_type": "vit_mae",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": 4 * config.width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "decoder_hidden_size": config.decoder_width,
        "decoder_num_hidden_layers": config.decoder_depth,
        "decoder_num_attention_heads": config.decoder_num_heads,
        "decoder_intermediate_size": 4 * config.decoder_width,
        "mask_ratio": config.mask_ratio,
        "norm_pix_loss": config.norm_pix_loss,
        "initializer_range": 0.02,
        "torch_dtype": "float32",
    }
    images = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": config.image_size, "width": config.image_size},
        "resample": 3,  # Pillow's number for bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    for name, values in (("config.json", model), ("preprocessor_config.json", images)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n")


def _published(state: Tensors) -> Tensors:
    published = {}
    for name, value in state.items():
        for pattern, replacement in SYNONYMS.items():
            name = re.sub(pattern, replacement, name)
        published[name] = value
    return published


def _outer(name: str) -> str:
    """Returns the published name of a name of MAE's."""
    (start,) = (start for start in PREFIXES if name.startswith(start))
    return PREFIXES[start] + name.removeprefix(start)


def _inverse_outer(name: str) -> str:
    """Returns MAE's name of a published name; other names are returned unchanged, and rejected later."""
    for mae, theirs in PREFIXES.items():
        if name.startswith(theirs):
            return mae + name.removeprefix(theirs)
    return name

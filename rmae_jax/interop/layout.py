"""Tensor names of PyTorch's layouts and the matching parameters of `RMAE`, used to convert in both directions.

The "rmae" layout has three parts. The encoder alone is the "timm" layout; encoder and pixel decoder are the "mae"
layout, that of facebookresearch/mae.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.traverse_util
import jax
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import Float

from rmae_jax.model import RMAE

Array = Float[np.ndarray, "..."]
StateDict = dict[str, Array]  # by the names of a PyTorch layout


class Weight(NamedTuple):
    """One tensor of a PyTorch state dict.

    Attributes:
      name: the tensor's name in the state dict.
      path: the parameter's path in `nnx.to_pure_dict(nnx.state(model))`, joined by "/".
      layer: index on the parameter's leading axis if that is a stack of blocks, else None.
      form: how the two arrays differ, a key of `FORMS`.
    """

    name: str
    path: str
    layer: int | None
    form: str


class Form(NamedTuple):
    """The conversion of an array to PyTorch's form, given the patch size, and back."""

    to_torch: Callable[[Array, int], Array]
    from_torch: Callable[[Array], Array]


def _convolution(kernel: Array, patch: int) -> Array:
    """Converts (P * P * C, D), with pixels in (row, column, channel) order, to (D, C, P, P)."""
    return kernel.reshape(patch, patch, -1, kernel.shape[-1]).transpose(3, 2, 0, 1)


FORMS = {
    "same": Form(lambda x, patch: x, lambda x: x),
    "matrix": Form(lambda x, patch: x.T, lambda x: x.T),  # (in, out) <-> (out, in)
    "convolution": Form(_convolution, lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x))),
}


def encoder(config: ml_collections.ConfigDict) -> Iterator[Weight]:
    """Yields the encoder's weights, which every layout has."""
    yield Weight("cls_token", "encoder/cls_token", None, "same")
    yield from _linear("patch_embed.proj", "encoder/patch_embed", form="convolution")
    for i in range(config.depth):
        yield from _block(f"blocks.{i}", "encoder/blocks", i)
    yield from _norm("norm", "encoder/norm")


def pixel_decoder(config: ml_collections.ConfigDict) -> Iterator[Weight]:
    """Yields the pixel decoder's weights, which "mae" has in addition to the encoder's."""
    yield from _dense_decoder("decoder", "mask_token", "decoder_norm", "decoder", config.decoder_depth)
    yield from _linear("decoder_pred", "pixel_head")


def region_branch(config: ml_collections.ConfigDict) -> Iterator[Weight]:
    """Yields the region branch's weights, which "rmae" has in addition to those of "mae"."""
    yield from _dense_decoder("region_cross", "region_cross_mask_token", "region_dec_norm", "neck", config.neck_depth)
    yield from _linear("region_patch_embed.proj", "region_encoder/patch_embed", form="convolution")
    yield from _blocks("region_enc_blocks", "region_encoder/blocks", config.region_encoder_depth)
    yield from _norm("region_proj.0", "region_decoder/query_norm")
    yield from _linear("region_proj.1", "region_decoder/query_proj")
    last = config.region_decoder_depth - 1
    for i in range(last):  # the release's default has none; the names of their cross-attention are this code's choice
        name, path = f"region_dec_blocks.{i}", "region_decoder/blocks"
        yield from _block(name, path, i)
        yield from _norm(f"{name}.norm3", f"{path}/norm3", i)
        for part in ("q", "kv", "proj"):
            yield from _linear(f"{name}.cross_attn.{part}", f"{path}/cross_attention/{part}", i)
    name, path = f"region_dec_blocks.{last}", "region_decoder/expansion"
    yield from _norm(f"{name}.norm1", f"{path}/norm1")
    yield from _attention(f"{name}.attn", f"{path}/attention")
    yield from _linear(f"{name}.proj", f"{path}/value")
    yield from _norm(f"{name}.norm3", f"{path}/norm3")
    yield from _mlp(f"{name}.mlp", f"{path}/mlp")
    yield from _linear("region_pred.1", "region_decoder/head")


class Part(NamedTuple):
    """A part of the model, which is complete in a state dict or absent.

    Attributes:
      title: the part's name in messages.
      weights: a function that yields the part's tensors, given `config.model`.
      tables: the names of the part's stored position tables, each with the config key of its width.
    """

    title: str
    weights: Callable[[ml_collections.ConfigDict], Iterator[Weight]]
    tables: dict[str, str]


PARTS = {
    "encoder": Part("encoder", encoder, {"pos_embed": "width"}),
    "decoder": Part("pixel decoder", pixel_decoder, {"decoder_pos_embed": "decoder_width"}),
    "regions": Part(
        "region branch", region_branch, {"region_cross_pos_embed": "region_width", "region_pos_embed": "region_width"}
    ),
}


def parts_of(config: ml_collections.ConfigDict) -> list[str]:
    """Returns the parts of a model of this objective."""
    return {"mae": ["encoder", "decoder"], "rae": ["encoder", "regions"], "rmae": list(PARTS)}[config.objective]


def flat_params(model: RMAE) -> dict[str, jax.Array | jax.ShapeDtypeStruct]:
    """Returns a model's parameters by their paths, joined by "/"."""
    return flax.traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(model)), sep="/")


def _linear(name: str, path: str, layer: int | None = None, form: str = "matrix") -> Iterator[Weight]:
    yield Weight(f"{name}.weight", f"{path}/kernel", layer, form)
    yield Weight(f"{name}.bias", f"{path}/bias", layer, "same")


def _norm(name: str, path: str, layer: int | None = None) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", f"{path}/scale", layer, "same")
    yield Weight(f"{name}.bias", f"{path}/bias", layer, "same")


def _attention(name: str, path: str, layer: int | None = None) -> Iterator[Weight]:
    yield from _linear(f"{name}.qkv", f"{path}/qkv", layer)
    yield from _linear(f"{name}.proj", f"{path}/proj", layer)


def _mlp(name: str, path: str, layer: int | None = None) -> Iterator[Weight]:
    yield from _linear(f"{name}.fc1", f"{path}/fc1", layer)
    yield from _linear(f"{name}.fc2", f"{path}/fc2", layer)


def _block(name: str, path: str, layer: int | None) -> Iterator[Weight]:
    yield from _norm(f"{name}.norm1", f"{path}/norm1", layer)
    yield from _attention(f"{name}.attn", f"{path}/attention", layer)
    yield from _norm(f"{name}.norm2", f"{path}/norm2", layer)
    yield from _mlp(f"{name}.mlp", f"{path}/mlp", layer)


def _blocks(name: str, path: str, depth: int) -> Iterator[Weight]:
    """Yields the weights of `rmae_jax.model.blocks.Blocks`: a stack of all blocks but the last, and the last."""
    for i in range(depth - 1):
        yield from _block(f"{name}.{i}", f"{path}/body", i)
    yield from _block(f"{name}.{depth - 1}", f"{path}/last", None)


def _dense_decoder(prefix: str, mask_token: str, norm: str, path: str, depth: int) -> Iterator[Weight]:
    yield from _linear(f"{prefix}_embed", f"{path}/embed")
    yield Weight(mask_token, f"{path}/mask_token", None, "same")
    yield from _blocks(f"{prefix}_blocks", f"{path}/blocks", depth)
    yield from _norm(norm, f"{path}/norm")

"""Names and shapes of the layouts, and where each weight goes, by value."""

import ast
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from exported import make_toy
from flax import nnx
from toy import flat

from configs import rmae_b
from rmae_jax import export, interop
from rmae_jax.interop.validate import expected_shapes
from rmae_jax.model import RMAE
from rmae_jax.model.patches import patchify


@pytest.mark.parametrize("neck_depth", [8, 1])
def test_names_and_shapes_of_rmae_are_those_of_the_release(neck_depth):
    """The table lists a ViT-B/16 with a neck of 8 blocks."""
    lines = Path(__file__).with_name("rmae_vitb16_neck8.tsv").read_text().splitlines()
    table = {name: ast.literal_eval(shape) for name, shape in (line.split("\t") for line in lines)}
    beyond = tuple(f"region_cross_blocks.{i}." for i in range(neck_depth, 8))
    config = rmae_b.get_config().model
    config.neck_depth = neck_depth
    ours = {name: shape for part in expected_shapes(config).values() for name, shape in part.items()}
    assert ours == {name: shape for name, shape in table.items() if not name.startswith(beyond or ("none",))}


def test_shapes_are_those_that_are_written(toy):
    written = {name: value.shape for name, value in interop.to_torch(toy.model, "rmae").items()}
    assert written == {name: s for part in expected_shapes(toy.config.model).values() for name, s in part.items()}


def test_formats_hold_their_parts_alone(toy):
    names = {format: set(interop.to_torch(toy.model, format)) for format in interop.FORMATS}
    assert names["timm"] < names["mae"] < names["rmae"]
    assert "mask_token" not in names["timm"]  # timm would take the weights for DINOv2's
    assert not any(name.startswith("decoder") for name in names["timm"])
    assert not any(name.startswith("region") for name in names["mae"])
    alone = make_toy(objective="rae")
    assert set(interop.to_torch(alone.model, "mae")) == names["timm"]
    assert set(interop.to_torch(alone.model, "rmae")) == {
        n for n in names["rmae"] if n not in names["mae"] - names["timm"]
    }
    assert set(interop.to_torch(make_toy(objective="mae").model, "rmae")) == names["mae"]


@pytest.mark.parametrize("format", interop.FORMATS)
@pytest.mark.parametrize("changes", [{}, {"region_decoder_depth": 3, "region_encoder_depth": 2, "neck_depth": 1}])
def test_there_and_back_is_bit_identical(format, changes):
    toy = make_toy(**changes)
    state = interop.to_torch(toy.model, format)
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in state.values())
    back = interop.from_torch(state, toy.config, seed=5)
    again = interop.to_torch(back, format)
    assert again.keys() == state.keys()
    assert all(np.array_equal(again[name], state[name]) for name in state)
    ours, theirs = flat(back), flat(toy.model)
    parts = {"rmae": "", "mae": ("encoder", "decoder", "pixel_head"), "timm": "encoder"}
    for name in ours:
        if name.startswith(parts.get(format, parts["mae"])):
            assert np.array_equal(ours[name], theirs[name]), name


def test_what_is_not_in_a_file_is_initialised_as_a_new_model_would_be(toy):
    new = flat(jax.jit(lambda: RMAE(toy.config.model, rngs=nnx.Rngs(3)))())
    found = flat(interop.from_torch(interop.to_torch(toy.model, "timm"), toy.config, seed=3))
    for name, value in found.items():
        assert np.array_equal(value, new[name]) != name.startswith("encoder/"), name


def test_the_patch_embedding_is_a_convolution(toy):
    state = {name: torch.from_numpy(value) for name, value in interop.to_torch(toy.model, "mae").items()}
    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    theirs = torch.nn.functional.conv2d(toy.images, weight, bias, stride=8).flatten(2).transpose(1, 2)
    ours = toy.model.encoder.patch_embed(patchify(toy.channels_last, 8))
    assert np.allclose(ours, theirs, atol=1e-5)


def test_query_key_and_value_in_this_order(toy):
    state = interop.to_torch(toy.model, "rmae")
    published = interop.to_torch(toy.model, "transformers")
    kernels = flat(toy.model)["encoder/blocks/attention/qkv/kernel"]
    for layer in range(3):
        fused = state[f"blocks.{layer}.attn.qkv.weight"]
        for i, part in enumerate(("query", "key", "value")):
            expected = kernels[layer][:, 48 * i : 48 * (i + 1)].T
            assert np.array_equal(fused[48 * i : 48 * (i + 1)], expected)
            assert np.array_equal(published[f"vit.encoder.layer.{layer}.attention.attention.{part}.weight"], expected)


def test_stacks_and_the_last_block_keep_their_order(toy):
    params, state = flat(toy.model), interop.to_torch(toy.model, "rmae")
    for layer in range(3):
        assert np.array_equal(state[f"blocks.{layer}.mlp.fc1.bias"], params["encoder/blocks/mlp/fc1/bias"][layer])
    for name, path in (("decoder_blocks", "decoder"), ("region_cross_blocks", "neck")):
        assert np.array_equal(state[f"{name}.0.norm1.weight"], params[f"{path}/blocks/body/norm1/scale"][0])
        assert np.array_equal(state[f"{name}.1.norm1.weight"], params[f"{path}/blocks/last/norm1/scale"])


@pytest.mark.parametrize("format", ["rmae", "mae", "transformers"])
@pytest.mark.parametrize("changes", [{"feeding_direction": "both"}, {"feeding_direction": "region_to_pixel"}])
def test_a_feeding_direction_that_the_layouts_have_no_place_for(format, changes):
    with pytest.raises(interop.InteropError, match="feeding_direction is .*format timm holds only the encoder"):
        interop.to_torch(make_toy(**changes).model, format)


@pytest.mark.parametrize("variant", ["batch", "channel"])
def test_a_variant_that_the_layouts_have_no_place_for(variant):
    model = make_toy(region_variant=variant).model
    with pytest.raises(interop.InteropError, match=f"not '{variant}'; formats mae, timm and transformers omit"):
        interop.to_torch(model, "rmae")
    assert interop.to_torch(model, "mae")


def test_an_unknown_format(toy):
    assert list(export.FORMATS) == list(interop.FORMATS)
    with pytest.raises(
        interop.InteropError, match="unknown format 'keras'; choose one of rmae, mae, timm, transformers"
    ):
        interop.to_torch(toy.model, "keras")

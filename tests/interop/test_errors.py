"""Weights that do not fit: the message says what is wrong, in terms of the recipe."""

import copy
import re

import ml_collections
import numpy as np
import pytest
import torch
from exported import make_toy
from timm.layers import resample_abs_pos_embed
from toy import flat

from rmae_jax import interop
from rmae_jax.interop.convert import read_model
from rmae_jax.interop.position_table_checks import stored_table
from rmae_jax.model.positions import sincos_positions


def refused(state: dict, config: ml_collections.ConfigDict, message: str, seed: int | None = 0) -> None:
    with pytest.raises(interop.InteropError, match=message) as caught:
        interop.from_torch(state, config, seed=seed)
    assert "\n" not in str(caught.value)


@pytest.fixture
def state(toy) -> dict[str, np.ndarray]:
    return interop.to_torch(toy.model, "rmae")


def recipe(toy, **changes) -> ml_collections.ConfigDict:
    config = copy.deepcopy(toy.config)
    config.model.update(changes)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 64}, r"another model \(model.width is 64, but 48 in the weights\); wrong shapes: .*instead of"),
        (
            {"patch_size": 16},
            r"model.patch_size is 16, but 8 in the weights.*patch_embed.proj.weight \(48, 3, 8, 8\) instead of",
        ),
        ({"depth": 2}, r"model.depth is 2, but 3 in the weights\); unexpected: blocks.2.attn.proj.bias.* and 6 more"),
        ({"depth": 4}, r"model.depth is 4, but 3 in the weights\); missing: blocks.3.norm1.weight"),
        ({"decoder_width": 16}, "model.decoder_width is 16, but 32 in the weights"),
        ({"decoder_depth": 1}, "model.decoder_depth is 1, but 2 in the weights"),
        ({"neck_depth": 8}, "model.neck_depth is 8, but 2 in the weights"),
        ({"region_width": 32, "region_decoder_depth": 2}, "model.region_width is 32, but 16 in .*decoder_depth is 2"),
        ({"region_variant": "batch"}, "hold a region branch of variant 'length' only, not 'batch'"),
        ({"feeding_direction": "both"}, "the model's feeding_direction is 'both'"),
        (
            {"objective": "mae"},
            "the weights contain a region branch, which objective 'mae' does not have: region_cross_pos_embed",
        ),
        ({"objective": "rae"}, "the weights contain a pixel decoder, which objective 'rae' does not have"),
    ],
)
def test_another_model(toy, state, changes, message):
    refused(state, recipe(toy, **changes), message)


def test_missing_and_unexpected_names_are_listed(toy, state):
    del state["blocks.1.attn.qkv.bias"], state["region_pred.1.weight"]
    state["extra.weight"] = np.zeros(3, np.int64)
    missing = r"missing: blocks.1.attn.qkv.bias, region_pred.1.weight; unexpected: extra.weight"
    refused(state, toy.config, f"^{missing}$")


def test_a_part_that_is_not_there(toy):
    encoder = interop.to_torch(toy.model, "timm")
    refused(encoder, toy.config, "no pixel decoder and no region branch in the state dict.*give a seed", seed=None)
    whole = interop.to_torch(toy.model, "mae")
    refused(whole, toy.config, "no region branch in the state dict, but objective 'rmae' needs it", seed=None)


def test_no_weights_of_a_vit(toy):
    refused(
        {"conv1.weight": np.zeros((64, 3, 7, 7))},
        toy.config,
        "layout of R-MAE, MAE, timm or .*; tensors found: conv1.weight",
    )
    refused({}, toy.config, "tensors found: none")


def test_numbers_of_another_kind_are_named(toy, state):
    whole = state | {"cls_token": np.zeros(state["cls_token"].shape, np.int64)}
    refused(whole, toy.config, "^cls_token is not a floating-point array; its type is int64$")


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1, 1, 48, device="meta"), torch.eye(3).to_sparse(), torch.zeros(3).to(torch.float8_e4m3fn)]
)
def test_tensors_without_plain_numbers_are_named(toy, state, tensor):
    refused(state | {"cls_token": tensor}, toy.config, "^cls_token cannot be converted to an array: ")


PREFIXES = ["module.", "_orig_mod.module.", "model.backbone.", "encoder.0.", "module.vit."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("format", ["rmae", "transformers"])
def test_a_common_prefix_is_removed_and_reported(toy, prefix, format):
    state = interop.to_torch(toy.model, format)
    prefixed = {prefix + name: value for name, value in state.items()}
    found, notes = read_model(prefixed, toy.config, seed=0)
    expected, others = read_model(state, toy.config, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(flat(found).values(), flat(expected).values(), strict=True))
    assert notes == [f"prefix {prefix!r} removed", *others]


def test_a_head_is_ignored_and_reported_as_a_head(toy):
    """As behind an encoder in a model that was fine-tuned for classification or segmentation."""
    encoder = interop.to_torch(toy.model, "timm")
    head = {"head.weight": np.zeros((10, 48), np.float32), "head.bias": np.zeros(10, np.int64)}
    backbone = {f"backbone.{name}": value for name, value in encoder.items()}
    found, notes = read_model(backbone | head, toy.config, seed=0)
    assert np.array_equal(flat(found)["encoder/cls_token"], encoder["cls_token"])
    assert notes[:2] == ["prefix 'backbone.' removed", "head of another task ignored: head.weight, head.bias"]
    pooled = {name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: v for name, v in encoder.items()}
    refused(pooled | head, toy.config, "fine-tuned with global average pooling, which replaces .* by fc_norm")


def test_several_models_in_one_file_are_refused(toy):
    encoder = interop.to_torch(toy.model, "timm")
    both = {prefix + name: value for prefix in ("student.", "teacher.") for name, value in encoder.items()}
    refused(
        both, toy.config, "the weights of several models, whose names begin with student., teacher.; save the state"
    )
    both = {prefix + name: value for prefix in ("", "model_ema.") for name, value in encoder.items()}
    refused(both, toy.config, "several models, whose names begin with nothing, model_ema.; save")


def test_query_without_key(toy):
    state = interop.to_torch(toy.model, "transformers")
    name = "vit.encoder.layer.0.attention.attention.key.weight"
    shapes = r"'query': \(48, 48\), 'key': \(48,\)"
    refused(state | {name: state[name][0]}, toy.config, f"blocks.0.attn.qkv.weight cannot be joined .*{shapes}")
    del state[name]
    refused(state, toy.config, "blocks.0.attn.qkv.weight lacks key")


def test_a_new_region_branch_of_any_variant_on_old_weights(toy):
    """MAE's encoder and decoder start R-MAE in a variant that no layout holds."""
    state = interop.to_torch(toy.model, "mae")
    for changes in ({"region_variant": "channel"}, {"feeding_direction": "both"}):
        params = flat(interop.from_torch(state, recipe(toy, **changes), seed=0))
        assert np.array_equal(params["pixel_head/bias"], state["decoder_pred.bias"])
    assert "region_feed/proj/kernel" in params


def test_position_tables_of_another_kind(toy, state):
    learned = state | {"pos_embed": np.random.default_rng(0).normal(size=(1, 17, 48)).astype(np.float32)}
    refused(learned, toy.config, "pos_embed is not MAE's fixed sine-cosine table.*learned position tables")
    rows_first = state | {"decoder_pos_embed": np.roll(state["decoder_pos_embed"], 16, axis=2)}
    refused(rows_first, toy.config, "decoder_pos_embed encodes rows in its first half")
    for value, message in ((0, "is all zeros, as in models initialised by transformers 5"), (np.nan, "is not MAE's")):
        refused(state | {"pos_embed": np.full_like(learned["pos_embed"], value)}, toy.config, f"pos_embed {message}")
    without_cls = state | {"pos_embed": state["pos_embed"][:, 1:]}
    refused(without_cls, toy.config, r"pos_embed is \(1, 16, 48\), which is no position table of cls and a square grid")
    with_cls = state | {"pos_embed": state["pos_embed"] + np.eye(17)[:1].T[None].astype(np.float32)}
    refused(with_cls, toy.config, "pos_embed is not MAE's")
    wide = state | {"pos_embed": table(64, 4)}
    refused(wide, toy.config, r"wrong shapes: pos_embed \(1, 17, 64\) instead of \(1, 17, 48\)")
    mixed = state | {"pos_embed": table(48, 7)}
    refused(mixed, toy.config, "the position tables have different grids: .*'pos_embed': 7, 'decoder_pos_embed': 4")


@pytest.mark.parametrize(("original", "side"), [(4, 7), (4, 8), (14, 4), (7, 4), (9, 8)])
@pytest.mark.parametrize("resize", ["mae", "timm"])
def test_tables_that_other_programs_resized_are_recognised(toy, original, side, resize):
    """By MAE's interpolate_pos_embed and by timm; the model's positions are those of the formula."""
    stored = torch.from_numpy(table(48, original))
    if resize == "timm":
        resized = resample_abs_pos_embed(stored, (side, side))
    else:
        grid = stored[:, 1:].reshape(1, original, original, 48).permute(0, 3, 1, 2)
        grid = torch.nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        resized = torch.cat((stored[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)
    state = interop.to_torch(toy.model, "timm") | {"pos_embed": resized.numpy()}
    model, notes = read_model(state, recipe(toy, image_size=8 * side), seed=0)
    assert model.config.position_scale == pytest.approx(original / side)
    said = f"position tables, resized from {original} x {original} to {side} x {side} patches, are computed anew"
    assert notes[0] == said
    halves = state | {"pos_embed": resized.numpy().astype(np.float16)}
    assert read_model(halves, recipe(toy, image_size=8 * side), seed=0)[1][0] == said


def table(width: int, side: int) -> np.ndarray:
    """A plain table as the layouts store it."""
    return np.pad(sincos_positions(width, (side, side)), ((1, 0), (0, 0)))[None]


def test_tables_of_another_image_size_are_interpolated(toy, state):
    """Weights of 32-pixel images in a model for 64-pixel images."""
    larger = recipe(toy, image_size=64)
    model = interop.from_torch(state, larger)
    assert model.config.position_scale == 0.5
    assert larger.model.position_scale == 1.0
    written = interop.to_torch(model, "rmae")
    for name in ("pos_embed", "decoder_pos_embed", "region_pos_embed"):
        coarse = torch.from_numpy(state[name][:, 1:]).reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        fine = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False)
        inner = fine.permute(0, 2, 3, 1).numpy()[0, 2:6, 2:6]  # PyTorch repeats the border, the formula goes on
        assert np.abs(written[name][0, 1:].reshape(8, 8, -1)[2:6, 2:6] - inner).max() < 0.06
    # And on: into a model of the same size, whether or not its recipe says the scale already, and of others.
    for size, scale, found in ((64, 0.5, 0.5), (64, 1.0, 0.5), (32, 1.0, 1.0), (96, 1.0, 1 / 3), (96, 1 / 3, 1 / 3)):
        again = interop.from_torch(written, recipe(toy, image_size=size, position_scale=scale))
        assert again.config.position_scale == pytest.approx(found, rel=1e-12)


def test_a_scale_of_positions_given_by_hand_is_never_replaced(toy, state):
    scaled = interop.to_torch(interop.from_torch(state, recipe(toy, image_size=64)))
    for weights in (state, scaled):
        refused(weights, recipe(toy, image_size=64, position_scale=0.7), "position_scale is 0.7, but .* imply 0.5")


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_scale_of_interpolated_tables_is_recovered_exactly(toy, state, side, dtype):
    config = recipe(toy, image_size=8 * side)
    written = interop.to_torch(interop.from_torch(state, config))
    halves = {name: torch.from_numpy(value).to(dtype) for name, value in written.items()}
    assert interop.from_torch(halves, config).config.position_scale == 4 / side


def test_a_scale_given_by_hand_is_recovered(toy, state):
    tables = {name: stored_table(state[name].shape[2], 4, 0.7) for name in state if name.endswith("pos_embed")}
    assert interop.from_torch(state | tables, toy.config).config.position_scale == 0.7


def test_messages_name_no_more_than_a_few(toy):
    state = {f"blocks.{i}.norm1.weight": np.zeros(48, np.float32) for i in range(3)}
    with pytest.raises(interop.InteropError) as caught:
        interop.from_torch(state, make_toy(objective="mae").config)
    assert len(re.findall("weight|bias", str(caught.value))) < 8

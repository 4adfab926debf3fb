"""Names and shapes that other projects' tools look for in an exported file, written down from their code."""

from toy import toy_model

from rmae_jax import interop

ENCODER = {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
BLOCK = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]


def test_detectron2_finds_its_vit():
    """All that ViTDet's backbone has, but for relative positions and the pyramid, which are new there."""
    state = interop.to_torch(toy_model(), format="mae")
    wanted = ENCODER | {f"blocks.{block}.{name}" for block in range(3) for name in BLOCK}
    assert wanted <= state.keys()
    assert state["pos_embed"].shape == (1, 1 + 16, 48)  # with a row for cls, pretrain_use_cls_token
    assert state["blocks.0.attn.qkv.weight"].shape == (3 * 48, 48)
    assert state["patch_embed.proj.weight"].shape == (48, 3, 8, 8)


def test_mmsegmentation_s_converter_meets_names_that_it_knows():
    """It renames "blocks", "norm", "mlp.fc1", "mlp.fc2" and "patch_embed.proj"; the rest is taken as it is."""
    state = interop.to_torch(toy_model(), format="mae")
    of_blocks = {name.split(".", 2)[2] for name in state if name.startswith("blocks.")}
    assert of_blocks == set(BLOCK)
    assert {name for name in state if name.startswith("patch_embed")} == ENCODER - {"pos_embed"}
    assert not [name for name in state if name.startswith(("fc_norm", "head"))]


def test_mae_s_fine_tuning_misses_nothing_but_its_head():
    """main_finetune.py asserts that what the file lacks is exactly fc_norm and head, with global pooling."""
    state = interop.to_torch(toy_model(), format="mae")
    model = ENCODER | {"cls_token"} | {f"blocks.{block}.{name}" for block in range(3) for name in BLOCK}
    model |= {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    assert model - state.keys() == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}

"""Exported weights in the real timm and transformers: the same images and noise give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from exported import make_toy
from flax import nnx
from timm.models.vision_transformer import VisionTransformer
from torch_rmae import TorchRMAE
from toy import forward, reconstruct, toy_config, with_random_weights
from transformers import (
    AutoImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTModel,
)

from rmae_jax import interop
from rmae_jax.interop.convert import read_model
from rmae_jax.model import RMAE, Mask, normalize, vit_sizes
from rmae_jax.model.positions import sincos_positions

NOISE = np.random.default_rng(0).uniform(size=(2, 16)).astype(np.float32)
encode = jax.jit(lambda encoder, *inputs: encoder(*inputs))


def tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in state.items()}


@torch.no_grad()
def test_timm_gives_the_same_features(toy):
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=0).eval()
    model.load_state_dict(tensors(interop.to_torch(toy.model, "timm")), strict=True)
    theirs = model.forward_features(toy.images)
    assert np.abs(encode(toy.model.encoder, toy.channels_last) - theirs.numpy()).max() < 1e-5


@torch.no_grad()
def test_vit_base_in_timm(tmp_path):
    """The widths of ViT-B, with two of its blocks."""
    config = toy_config(objective="mae", image_size=224, decoder_depth=1, **vit_sizes.encoder("B") | {"depth": 2})
    model = with_random_weights(lambda: RMAE(config, rngs=nnx.Rngs(0)))
    interop.write(model, tmp_path / "encoder.safetensors", "timm")
    theirs = timm.create_model("vit_base_patch16_224", depth=2, num_classes=0).eval()
    theirs.load_state_dict(tensors(interop.read(tmp_path / "encoder.safetensors")), strict=True)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    ours = encode(model.encoder, images.permute(0, 2, 3, 1).numpy())
    assert np.abs(ours - theirs.forward_features(images).numpy()).max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("format", ["rmae", "mae"])
def test_pytorch_gives_the_same_latent_and_losses(toy, format):
    """With the modules that these layouts name, and nothing left over on either side."""
    theirs = TorchRMAE(toy.config.model, regions=format == "rmae").eval()
    theirs.load_state_dict(tensors(interop.to_torch(toy.model, format)), strict=True)
    permutation = torch.from_numpy(NOISE).argsort(1)
    latent, pixel_loss = theirs.pixels(toy.images, permutation, 4)
    maps = (torch.rand(2, 5, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    mask = Mask.from_permutation(jnp.asarray(permutation.numpy()), 0.75)
    outputs = forward(toy.model, toy.channels_last, maps.numpy(), mask)
    assert np.abs(outputs.latent - latent.numpy()).max() < 1e-5
    assert abs(outputs.pixel_loss - pixel_loss.item()) < 1e-5
    if format == "rmae":
        region_loss = theirs.regions(latent, maps, permutation, 4)
        assert abs(outputs.region_loss - region_loss.item()) < 1e-5


@pytest.fixture
def written(toy, tmp_path):
    """A folder of transformers with the toy's weights."""
    interop.write(toy.model, tmp_path / "vit-mae", "transformers")
    return tmp_path / "vit-mae"


def opened(kind: type, folder) -> torch.nn.Module:
    """The model of a folder; every weight must have a place, and every place a weight."""
    model, report = kind.from_pretrained(folder, output_loading_info=True, local_files_only=True)
    assert not report["missing_keys"] and not report["mismatched_keys"], report
    if kind is ViTMAEForPreTraining:
        assert not report["unexpected_keys"], report
    else:
        assert all(name.startswith("decoder.") for name in report["unexpected_keys"]), report
    return model.eval()


@torch.no_grad()
def test_transformers_gives_the_same_features_predictions_and_loss(toy, written):
    theirs = opened(ViTMAEForPreTraining, written)
    expected = theirs(toy.images, noise=torch.from_numpy(NOISE))
    latent = theirs.vit(toy.images, noise=torch.from_numpy(NOISE)).last_hidden_state
    alone = opened(ViTMAEModel, written)(toy.images, noise=torch.from_numpy(NOISE)).last_hidden_state
    mask = Mask.from_permutation(jnp.argsort(jnp.asarray(NOISE), axis=1), 0.75)
    regions = jnp.zeros((2, 5, 32, 32))
    outputs = forward(toy.model, toy.channels_last, regions, mask)
    assert np.abs(outputs.latent - latent.numpy()).max() < 1e-5
    assert np.abs(outputs.latent - alone.numpy()).max() < 1e-5
    assert abs(outputs.pixel_loss - expected.loss.item()) < 1e-5
    pixels = reconstruct(toy.model, toy.channels_last, regions, mask).pixels
    assert np.abs(pixels - expected.logits.numpy()).max() < 1e-5


def test_transformers_takes_the_tables_of_the_file(toy, written):
    """It would itself leave them zero."""
    model = opened(ViTMAEForPreTraining, written)
    for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        assert not table[0, 0].any()
        assert np.array_equal(table[0, 1:].detach().numpy(), sincos_positions(table.shape[2], (4, 4)))
    assert model.config.layer_norm_eps == 1e-6
    assert (model.config.mask_ratio, model.config.norm_pix_loss) == (0.75, True)


def test_transformers_processes_images_as_this_code_does(written):
    processor = AutoImageProcessor.from_pretrained(written, local_files_only=True, use_fast=False)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    assert np.allclose(theirs.transpose(1, 2, 0), normalize(jnp.asarray(image)[None])[0], atol=1e-5)


@pytest.mark.parametrize("kind", [ViTMAEForPreTraining, ViTMAEModel])
def test_weights_come_back_from_transformers_memory_and_files(toy, written, tmp_path, kind):
    model = opened(kind, written)
    model.save_pretrained(tmp_path / "saved")
    wanted = interop.to_torch(toy.model, "mae" if kind is ViTMAEForPreTraining else "timm")
    for state in (model.state_dict(), interop.read(tmp_path / "saved")):
        back = interop.to_torch(interop.from_torch(state, toy.config, seed=0), "mae")
        assert all(np.array_equal(back[name], value) for name, value in wanted.items())


@torch.no_grad()
def test_weights_that_transformers_trained_are_used_as_it_uses_them(toy, written):
    """From there to here: features of the imported model equal those of the original."""
    theirs = opened(ViTMAEForPreTraining, written)
    for name, parameter in theirs.named_parameters():
        if "pos" not in name:
            parameter.add_(0.05 * torch.randn_like(parameter))
    model = interop.from_torch(theirs.state_dict(), toy.config, seed=0)
    expected = theirs.vit(toy.images, noise=torch.from_numpy(NOISE)).last_hidden_state
    mask = Mask.from_permutation(jnp.argsort(jnp.asarray(NOISE), axis=1), 0.75)
    assert np.abs(encode(model.encoder, toy.channels_last, mask) - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", [ViTModel, ViTForImageClassification])
@torch.no_grad()
def test_a_vit_of_transformers_with_fixed_positions_is_an_encoder(toy, tmp_path, kind):
    """Its pooler or classifier is ignored, in memory and in the file, whose names differ."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}
    theirs = kind(ViTConfig(image_size=32, patch_size=8, layer_norm_eps=1e-6, **sizes)).eval()
    vit = theirs if kind is ViTModel else theirs.vit
    vit.embeddings.position_embeddings.zero_()
    vit.embeddings.position_embeddings[0, 1:] = torch.from_numpy(sincos_positions(48, (4, 4)))
    theirs.save_pretrained(tmp_path)
    expected = vit(toy.images).last_hidden_state.numpy()
    for state in (theirs.state_dict(), interop.read(tmp_path)):
        model, notes = read_model(state, toy.config, seed=0)
        assert notes[0].startswith("head of another task ignored: ")
        assert np.abs(encode(model.encoder, toy.channels_last) - expected).max() < 1e-5


def test_the_encoder_of_rae_is_a_model_of_transformers(tmp_path):
    toy = make_toy(objective="rae")
    interop.write(toy.model, tmp_path / "rae", "transformers")
    model, report = ViTMAEModel.from_pretrained(tmp_path / "rae", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    assert model.config.architectures == ["ViTMAEModel"]
    state = interop.read(tmp_path / "rae")
    with pytest.raises(interop.InteropError, match="no region branch in the state dict, but objective 'rae' needs it"):
        interop.from_torch(state, toy.config)


def test_half_precision_is_read(toy):
    state = {k: v.to(torch.bfloat16) for k, v in tensors(interop.to_torch(toy.model, "rmae")).items()}
    found = interop.to_torch(interop.from_torch(state, toy.config), "rmae")
    for name, value in state.items():
        if not name.endswith("pos_embed"):
            assert np.array_equal(found[name], value.float().numpy()), name


def test_a_recipe_is_left_as_it_was(toy):
    toy.config.model.image_size = 64  # the tables are interpolated
    before = toy.config.to_json()
    assert interop.from_torch(interop.to_torch(toy.model), toy.config).config.position_scale == 0.5
    assert toy.config.to_json() == before

"""The pixel branch against transformers' ViTMAEForPreTraining: the same weights and noise give the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from region_reference import sincos
from toy import forward, reconstruct, toy_config
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from rmae_jax.model import RMAE, Mask, vit_sizes


def reference(config) -> ViTMAEForPreTraining:
    """A ViTMAE of the same sizes, its weights (biases and norms too) far from their initial values.

    Its position tables are set to MAE's own, which its released weights hold: transformers 5 leaves them at zero.
    """
    torch.manual_seed(0)
    model = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.width,
            decoder_hidden_size=config.decoder_width,
            decoder_num_hidden_layers=config.decoder_depth,
            decoder_num_attention_heads=config.decoder_num_heads,
            decoder_intermediate_size=4 * config.decoder_width,
            layer_norm_eps=1e-6,
            mask_ratio=config.mask_ratio,
            norm_pix_loss=config.norm_pix_loss,
        )
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn_like(weight))
        side = config.image_size // config.patch_size
        for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
            table[0, 1:] = torch.from_numpy(sincos(table.shape[-1], side, side))
    return model


def with_weights_of(reference: ViTMAEForPreTraining, config) -> RMAE:
    """An RMAE ("mae") with the weights of a ViTMAE."""
    weights = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}

    def linear(name):
        return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def block(name):
        qkv = [linear(f"{name}.attention.{part}_proj") for part in "qkv"]
        return {
            "norm1": norm(f"{name}.layernorm_before"),
            "attention": {
                "qkv": jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *qkv),
                "proj": linear(f"{name}.attention.o_proj"),
            },
            "norm2": norm(f"{name}.layernorm_after"),
            "mlp": {"fc1": linear(f"{name}.mlp.fc1"), "fc2": linear(f"{name}.mlp.fc2")},
        }

    def blocks(name, depth):
        return jax.tree.map(lambda *layers: np.stack(layers), *[block(f"{name}.{i}") for i in range(depth)])

    patch_embed = weights["vit.embeddings.patch_embeddings.projection.weight"]
    params = {
        "encoder": {
            "patch_embed": {
                "kernel": patch_embed.transpose(2, 3, 1, 0).reshape(-1, config.width),
                "bias": weights["vit.embeddings.patch_embeddings.projection.bias"],
            },
            "cls_token": weights["vit.embeddings.cls_token"],
            "blocks": blocks("vit.layers", config.depth),
            "norm": norm("vit.layernorm"),
        },
        "decoder": {
            "embed": linear("decoder.decoder_embed"),
            "mask_token": weights["decoder.mask_token"],
            "blocks": {
                "body": blocks("decoder.decoder_layers", config.decoder_depth - 1),
                "last": block(f"decoder.decoder_layers.{config.decoder_depth - 1}"),
            },
            "norm": norm("decoder.decoder_norm"),
        },
        "pixel_head": linear("decoder.decoder_pred"),
    }
    graphdef, own = nnx.split(nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0))))
    own = nnx.to_pure_dict(own)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own)
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))


def both(config, batch: int):
    """The same images and noise through both."""
    theirs = reference(config)
    ours = with_weights_of(theirs, config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, config.image_size, config.image_size, 3)).astype(np.float32)
    noise = rng.uniform(size=(batch, (config.image_size // config.patch_size) ** 2)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)), noise=torch.from_numpy(noise))
        latent = theirs.vit(torch.from_numpy(images.transpose(0, 3, 1, 2)), noise=torch.from_numpy(noise))
    mask = Mask.from_permutation(jnp.argsort(jnp.asarray(noise), axis=1), config.mask_ratio)
    return expected, latent.last_hidden_state, ours, jnp.asarray(images), mask


@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("mask_ratio", [0.75, 0.5])
def test_losses_and_predictions_are_equal(norm_pix_loss, mask_ratio):
    config = toy_config(objective="mae", norm_pix_loss=norm_pix_loss, mask_ratio=mask_ratio)
    expected, latent, model, images, mask = both(config, batch=3)
    outputs = forward(model, images, None, mask)
    assert abs(float(outputs.loss) - float(expected.loss)) < 1e-5
    assert np.array_equal(np.asarray(mask.masked), expected.mask.numpy() > 0)
    assert np.allclose(outputs.latent, latent, atol=2e-5)
    logits = expected.logits.numpy()
    assert np.allclose(reconstruct(model, images, None, mask).pixels, logits, atol=2e-5)
    masked = np.take_along_axis(logits, np.asarray(mask.masked_ids)[..., None], axis=1)
    assert np.allclose(outputs.pixel_pred, masked, atol=2e-5)


def test_gradients_are_equal():
    config = toy_config(objective="mae")
    theirs = reference(config)
    ours = with_weights_of(theirs, config)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    noise = rng.uniform(size=(2, 16)).astype(np.float32)
    theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)), noise=torch.from_numpy(noise)).loss.backward()
    mask = Mask.from_permutation(jnp.argsort(jnp.asarray(noise), axis=1), config.mask_ratio)
    grads = jax.jit(jax.grad(lambda model: model(jnp.asarray(images), None, mask).loss))(ours)
    pairs = [
        (grads.encoder.cls_token[...], theirs.vit.embeddings.cls_token.grad),
        (grads.encoder.blocks.mlp.fc1.kernel[1], theirs.vit.layers[1].mlp.fc1.weight.grad.T),
        (grads.encoder.blocks.attention.qkv.kernel[0][:, :48], theirs.vit.layers[0].attention.q_proj.weight.grad.T),
        (grads.decoder.mask_token[...], theirs.decoder.mask_token.grad),
        (grads.decoder.embed.kernel[...], theirs.decoder.decoder_embed.weight.grad.T),
        (grads.pixel_head.bias[...], theirs.decoder.decoder_pred.bias.grad),
    ]
    for ours_, theirs_ in pairs:
        assert np.allclose(ours_, theirs_, rtol=1e-3, atol=1e-6)


def test_the_widths_of_vit_base_are_equal():
    """Depth adds nothing here; tests/interop compares all twelve blocks with timm."""
    config = toy_config(
        objective="mae",
        image_size=224,
        decoder_width=512,
        decoder_num_heads=16,
        **vit_sizes.encoder("B") | {"depth": 2},
    )
    expected, latent, model, images, mask = both(config, batch=1)
    outputs = forward(model, images, None, mask)
    assert abs(float(outputs.loss) - float(expected.loss)) < 1e-5
    assert np.allclose(outputs.latent, latent, atol=1e-4)


def test_the_encoder_without_a_mask_sees_every_patch():
    config = toy_config(objective="mae")
    theirs = reference(config)
    theirs.config.mask_ratio = 0.0
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    in_order = torch.arange(16, dtype=torch.float32)[None].repeat(2, 1)
    with torch.no_grad():
        expected = theirs.vit(torch.from_numpy(images.transpose(0, 3, 1, 2)), noise=in_order).last_hidden_state
    tokens = jax.jit(lambda encoder: encoder(jnp.asarray(images)))(with_weights_of(theirs, config).encoder)
    assert tokens.shape == (2, 17, 48)
    assert np.allclose(tokens, expected, atol=2e-5)

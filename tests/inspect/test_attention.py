"""What the heads look at, against NumPy and transformers."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from toy import flat, randomised
from transformers import ViTMAEModel

from rmae_jax import interop
from rmae_jax.inspect import attention_maps, attention_weights
from rmae_jax.inspect.attention import draw_attention
from rmae_jax.model import normalize
from rmae_jax.model.positions import sincos_positions


def reference(model, image: np.ndarray, block: int) -> np.ndarray:
    """Softmax of all tokens in one block, (heads, tokens, tokens), in plain NumPy and double precision."""
    params = {name: value.astype(np.float64) for name, value in flat(model.encoder).items()}
    size, side = model.config.patch_size, image.shape[0] // model.config.patch_size
    pixels = np.asarray(normalize(jnp.asarray(image[None]))[0], np.float64)
    patches = pixels.reshape(side, size, -1, size, 3).swapaxes(1, 2).reshape(-1, size * size * 3)
    x = patches @ params["patch_embed/kernel"] + params["patch_embed/bias"]
    x = np.concatenate([params["cls_token"][0], x + sincos_positions(x.shape[1], (side, len(x) // side))])
    heads = model.config.num_heads

    def norm(x, name, i):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * params[f"blocks/{name}/scale"][i] + params[f"blocks/{name}/bias"][i]

    def linear(x, name, i):
        return x @ params[f"blocks/{name}/kernel"][i] + params[f"blocks/{name}/bias"][i]

    for i in range(block + 1):
        q, k, v = np.split(linear(norm(x, "norm1", i), "attention/qkv", i), 3, axis=1)
        q, k, v = (one.reshape(len(x), heads, -1) for one in (q, k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + linear(np.einsum("hqk,khd->qhd", weights, v).reshape(x.shape), "attention/proj", i)
        hidden = torch.nn.functional.gelu(torch.from_numpy(linear(norm(x, "norm2", i), "mlp/fc1", i))).numpy()
        x = x + linear(hidden, "mlp/fc2", i)
    return weights


@pytest.mark.parametrize("block", [0, 1, 2])
def test_weights_are_those_of_numpy_and_sum_to_one(model, photographs, block):
    image = photographs[1].image
    expected = reference(model, image, block)
    for token in (0, 5):
        found = attention_weights(model, image, block=block, token=token)
        assert np.abs(found - expected[:, token]).max() < 1e-5
        assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(
        attention_weights(model, image, block=block - 3), attention_weights(model, image, block=block)
    )


@torch.no_grad()
def test_weights_are_those_of_transformers(photographs, tmp_path):
    model, image = randomised(objective="mae"), photographs[1].image
    interop.write(model, tmp_path / "vit", "transformers")
    theirs = ViTMAEModel.from_pretrained(tmp_path / "vit", attn_implementation="eager", mask_ratio=0.0).eval()
    pixels = torch.from_numpy(np.array(normalize(jnp.asarray(image[None])))).permute(0, 3, 1, 2)
    noise = torch.arange(16).float()[None]  # keeps the order of the patches
    for block, weights in enumerate(theirs(pixels, noise=noise, output_attentions=True).attentions):
        assert np.abs(attention_weights(model, image, block=block) - weights[0, :, 0].numpy()).max() < 1e-4


def test_maps_of_a_wide_image(model, photographs):
    wide = photographs[0].image
    maps, weights = attention_maps(model, wide), attention_weights(model, wide)
    assert maps.shape == (4, 4, 6)
    assert np.array_equal(maps[:, 1, 2], weights[:, 1 + 6 + 2])
    assert len(draw_attention(photographs[0], maps).axes) == 8


def test_what_is_not_there_is_named(model, photographs):
    image = photographs[1].image
    with pytest.raises(ValueError, match="no block 3: the encoder has 3 blocks, 0 to 2 or, from the end, -3 to -1"):
        attention_weights(model, image, block=3)
    with pytest.raises(ValueError, match="no token 17: the image has 17 tokens, cls and its patches"):
        attention_weights(model, image, token=17)

"""The region branch against the NumPy float64 reference in region_reference.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from region_reference import dense, dense_decoder, length, linear, loss, patches_of, region_hints, sincos
from toy import forward, randomised, reconstruct, toy_config

from rmae_jax.model import Mask


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"region_decoder_depth": 3},
        {"region_mask_ratio": 0.5, "region_encoder_depth": 2},
        {"mask_ratio": 0.5, "background_weight": 0.25, "neck_depth": 1, "patch_size": 16},
        {"region_loss": "l2", "background_weight": 0.25},
        {"feeding_direction": "region_to_pixel"},
        {"feeding_direction": "region_to_pixel", "region_decoder_depth": 2},
        {"feeding_direction": "both", "separate_masks": True, "region_mask_ratio": 0.5},
        {"separate_masks": True, "region_mask_ratio": 0.5},
        {"region_variant": "batch", "region_decoder_depth": 2},
        {"region_variant": "batch", "region_mask_ratio": 0.5, "separate_masks": True},
        {"region_variant": "channel", "region_encoder_depth": 2},
        {"region_variant": "channel", "feeding_direction": "region_to_pixel", "region_decoder_depth": 2},
    ],
)
def test_queries_memory_predictions_and_loss_are_equal(changes, images, regions):
    config = toy_config(**changes)
    model = randomised(**changes)
    side = 32 // config.patch_size
    grid = side, side
    permutation, region_permutation = (
        np.stack([np.random.default_rng(seed + i).permutation(side**2) for i in range(2)]) for seed in (0, 2)
    )
    mask = Mask.from_permutation(jnp.asarray(permutation), config.mask_ratio)
    region_mask = None
    if config.separate_masks:
        region_mask = Mask.from_permutation(jnp.asarray(region_permutation), config.region_mask_ratio)
    else:
        region_permutation = permutation
    outputs = forward(model, images, regions, mask, region_mask)

    params = jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(model)))
    visible, heads = round(side**2 * (1 - config.region_mask_ratio)), config.region_num_heads
    maps = patches_of(np.asarray(regions, np.float64), config.patch_size)
    latent = np.asarray(outputs.latent, np.float64)
    if config.feeding_direction == "region_to_pixel":
        memory = np.zeros((2, 1 + side**2, config.region_width))
        memory[:, 1:] = sincos(config.region_width, *grid)
    else:
        memory = dense_decoder(params["neck"], latent, permutation, grid, heads)
    every = range(config.num_regions)
    sets = [every] if config.region_variant == "channel" else [[k] for k in every]
    where = maps, memory, region_permutation, visible, grid, heads
    if config.region_variant == "length":
        queries, predicted = length(params, *where)
        assert np.allclose(outputs.queries, queries, atol=1e-5)
    else:
        predicted = dense(params, *where, sets)
        assert outputs.queries is None
    masked = region_permutation[:, visible:]
    assert np.allclose(outputs.memory, np.take_along_axis(memory[:, 1:], masked[..., None], axis=1), atol=1e-5)
    whole = reconstruct(model, images, regions, mask, region_mask)
    hints = 0
    if config.feeding_direction != "pixel_to_region":
        hints = region_hints(params, maps, region_permutation, visible, grid, heads, sets)
    decoded = dense_decoder(params["decoder"], latent, permutation, grid, config.decoder_num_heads, hints)
    assert np.allclose(whole.pixels, linear(params["pixel_head"], decoded[:, 1:]), atol=1e-5)
    assert np.allclose(whole.regions, predicted, atol=1e-5)
    at_masked = np.take_along_axis(predicted, masked[:, None, :, None], axis=2)
    assert np.allclose(outputs.region_pred, at_masked, atol=1e-5)
    expected = loss(maps, predicted, region_permutation, visible, config.region_loss, config.background_weight)
    assert abs(float(outputs.region_loss) - expected) < 1e-6 * max(1, expected)

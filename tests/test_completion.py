"""What a model completes and encodes, as images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import toy_model

import rmae_jax
from rmae_jax.completion import complete, to_colours
from rmae_jax.model import Mask, normalize, region_probability
from rmae_jax.model.positions import sincos_positions

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
INPUTS = normalize(jnp.asarray(IMAGES))
MAPS = rng.integers(0, 2, (2, 5, 32, 32)).astype(np.float32)


def test_normalised_predictions_get_the_colours_of_visible_patches():
    """Over a flat image any statistics are right, so the colours must be exact; hidden pixels must not matter."""
    flat = np.broadcast_to(np.array([0.3, -0.5, 1.0], np.float32), (1, 32, 32, 3)).copy()
    mask = Mask.random(jax.random.key(0), 1, 16, 0.75)
    hidden = np.asarray(mask.masked)
    predicted = np.random.default_rng(0).normal(size=(1, 16, 192)).astype(np.float32)
    grid = hidden.reshape(1, 4, 4).repeat(8, axis=1).repeat(8, axis=2)[..., None]
    shown = to_colours(predicted, flat, hidden, 8)
    assert np.array_equal(shown, to_colours(predicted, np.where(grid, 7, flat), hidden, 8))
    means = shown.reshape(16, 64, 3).mean(axis=1)
    assert np.allclose(means, [0.3, -0.5, 1.0], atol=1e-2)


def test_completed_regions_are_the_model_s_probabilities_at_hidden_patches_and_the_truth_elsewhere():
    model, mask = toy_model(), Mask.random(jax.random.key(1), 2, 16, 0.75)
    completed = complete(model, IMAGES, MAPS, mask)
    out = jax.jit(lambda *inputs: model(*inputs))(INPUTS, MAPS, mask)
    probability = np.asarray(region_probability(out.region_pred, "cross_entropy"))
    for image, patches in enumerate(np.asarray(mask.masked_ids)):
        for place, patch in enumerate(patches):
            row, column = 8 * (patch // 4), 8 * (patch % 4)
            found = completed.regions[image, :, row : row + 8, column : column + 8]
            assert np.allclose(found.reshape(5, 64), probability[image, :, place], atol=1e-5)
            assert completed.hidden[image, row : row + 8, column : column + 8].all()
    assert completed.hidden.mean() == 0.75
    visible = ~completed.hidden
    assert np.allclose(completed.pixels[visible], IMAGES[visible] / 255, atol=1e-5)
    assert np.array_equal(np.moveaxis(completed.regions, 1, 3)[visible], np.moveaxis(MAPS, 1, 3)[visible])


def test_features_of_bytes_and_of_normalised_images():
    model = toy_model()
    tokens = rmae_jax.features(model, IMAGES)
    assert tokens.shape == (2, 17, 48)
    assert np.allclose(tokens, rmae_jax.features(model, INPUTS), atol=1e-6)
    assert np.allclose(tokens, jax.jit(lambda e, x: e(x))(model.encoder, INPUTS), atol=1e-6)


def test_another_image_size():
    """The 8 x 4 grid's positions are those of 4 x 4 at half the distance; the trained model is left as it was."""
    model = toy_model()
    big = np.zeros((1, 64, 32, 3), np.uint8)
    grid = model.at_size(64, 32).encoder.grid(normalize(jnp.asarray(big)))
    assert np.array_equal(grid.positions(48), sincos_positions(48, (8, 4), 0.5))
    assert (model.encoder.position_scale, model.config.image_size) == (1.0, 32)
    assert model.at_size(32, 32) is model
    # A recipe that says so from the start gives the same model.
    other = toy_model(image_size=64, position_scale=0.5)
    square = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    assert np.allclose(rmae_jax.features(model, square), rmae_jax.features(other, square), atol=1e-5)
    completed = complete(model, big, np.zeros((1, 3, 64, 32), np.float32), Mask.random(jax.random.key(0), 1, 32, 0.5))
    assert completed.pixels.shape == (1, 64, 32, 3)
    with pytest.raises(ValueError, match="60 x 32 pixels cannot be cut into patches of 8"):
        rmae_jax.features(model, big[:, :60])

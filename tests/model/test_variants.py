"""What the variants of the region branch and the feeding directions promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import flat, forward, reconstruct, toy_model

from rmae_jax.model import Mask

ORDER = np.array([3, 0, 4, 1, 2])


@pytest.mark.parametrize(
    "changes",
    [
        {"region_decoder_depth": 2},
        {"region_variant": "batch", "region_mask_ratio": 0.5},
        {"feeding_direction": "both"},
        {"region_variant": "batch", "feeding_direction": "region_to_pixel"},
    ],
)
def test_permuting_the_regions_permutes_the_outputs_and_changes_nothing_else(changes, images, regions, mask):
    model = toy_model(**changes)
    before, after = forward(model, images, regions, mask), forward(model, images, regions[:, ORDER], mask)
    assert np.allclose(after.region_pred, before.region_pred[:, ORDER], atol=1e-5)
    assert not np.allclose(after.region_pred, before.region_pred, atol=1e-2)
    assert np.allclose(after.loss, before.loss, atol=1e-6)
    assert np.allclose(after.pixel_pred, before.pixel_pred, atol=1e-5)
    assert np.array_equal(after.memory, before.memory)
    if before.queries is not None:
        assert np.allclose(after.queries, before.queries[:, ORDER], atol=1e-5)


def test_the_channel_variant_is_not_equivariant(images, regions, mask):
    model = toy_model(region_variant="channel")
    before, after = forward(model, images, regions, mask), forward(model, images, regions[:, ORDER], mask)
    assert not np.allclose(after.region_pred, before.region_pred[:, ORDER], atol=1e-2)
    assert abs(after.region_loss - before.region_loss) > 1e-4


def test_with_one_region_batch_and_channel_are_the_same(images, regions, mask):
    sizes = {"num_regions": 1, "region_decoder_depth": 2, "region_mask_ratio": 0.5}
    batch, channel = (toy_model(region_variant=variant, **sizes) for variant in ("batch", "channel"))
    graphdef, _ = nnx.split(channel)
    channel = nnx.merge(graphdef, nnx.state(batch))  # of equal names and shapes
    one, other = (forward(model, images, regions[:, :1], mask) for model in (batch, channel))
    assert np.array_equal(one.region_pred, other.region_pred)
    assert one.loss == other.loss


def test_each_region_of_the_batch_variant_is_completed_as_if_it_were_alone(images, regions, mask):
    model = toy_model(region_variant="batch")
    together = forward(model, images, regions, mask).region_pred
    alone = forward(model, images, regions[:, 2:3], mask).region_pred
    assert np.allclose(together[:, 2:3], alone, atol=1e-5)


def test_the_channel_variant_takes_the_number_of_regions_that_it_was_built_for(images, regions, mask):
    with pytest.raises(ValueError, match="needs a multiple of 5 regions per image, not 3"):
        forward(toy_model(region_variant="channel"), images, regions[:, :3], mask)


@pytest.mark.parametrize(
    ("direction", "from_pixel_loss", "from_region_loss"),
    [
        ("pixel_to_region", {"encoder", "decoder", "pixel_head"}, {"encoder", "neck", "region_encoder"}),
        (
            "region_to_pixel",
            {"encoder", "decoder", "pixel_head", "region_encoder", "region_feed"},
            {"region_encoder"},
        ),
        (
            "both",
            {"encoder", "decoder", "pixel_head", "region_encoder", "region_feed"},
            {"encoder", "neck", "region_encoder"},
        ),
    ],
)
def test_which_loss_reaches_what(direction, from_pixel_loss, from_region_loss, images, regions, mask):
    model = toy_model(feeding_direction=direction)
    reached = (from_pixel_loss, from_region_loss | {"region_decoder"})
    for loss, expected in zip(("pixel_loss", "region_loss"), reached, strict=True):
        grads = flat(jax.jit(jax.grad(lambda m, loss=loss: getattr(m(images, regions, mask), loss)))(model))
        for name, grad in grads.items():
            assert grad.any() == (name.split("/")[0] in expected), (loss, name)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feeding_direction": "both", "separate_masks": True},
        {"region_variant": "batch", "separate_masks": True},
        {"region_variant": "channel", "feeding_direction": "region_to_pixel"},
    ],
)
def test_what_is_predicted_does_not_depend_on_what_is_hidden(changes, images, regions, mask):
    model = toy_model(**changes)
    region_mask = Mask.random(jax.random.key(3), 2, 16, 0.5) if changes.get("separate_masks") else mask

    def hidden(m):
        return np.asarray(m.masked).reshape(2, 4, 4).repeat(8, axis=1).repeat(8, axis=2)

    before = reconstruct(model, images, regions, mask, region_mask)
    other_images = jnp.where(hidden(mask)[..., None], 9.0, images)
    other_regions = jnp.where(hidden(region_mask)[:, None], 1 - regions, regions)
    after = reconstruct(model, other_images, other_regions, mask, region_mask)
    assert np.array_equal(before.pixels, after.pixels)
    assert np.array_equal(before.regions, after.regions)


def test_images_of_another_size_than_the_configured_one_that_are_not_square():
    maps = jnp.ones((2, 5, 48, 24))
    mask = Mask.random(jax.random.key(0), 2, 18, 0.5)
    for variant in ("length", "batch", "channel"):
        outputs = forward(toy_model(region_variant=variant), jnp.zeros((2, 48, 24, 3)), maps, mask, mask)
        assert outputs.region_pred.shape == (2, 5, 9, 64)
        assert outputs.memory.shape == (2, 9, 16)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import flat, forward, reconstruct, toy_config, toy_model

from configs import rmae_b
from rmae_jax.model import RMAE, Mask, denormalize, normalize, unpack_regions, vit_sizes
from rmae_jax.model.masks import num_visible_patches
from rmae_jax.model.shapes import abstract_model


def test_each_objective_has_its_branches_alone(images, regions, mask):
    for objective, has_pixels, has_regions in (("mae", True, False), ("rae", False, True), ("rmae", True, True)):
        model = toy_model(objective=objective)
        outputs = forward(model, images, regions, mask)
        names = {name.split("/")[0] for name in flat(model)}
        assert ("decoder" in names) == ("pixel_head" in names) == has_pixels
        assert ("neck" in names) == ("region_encoder" in names) == ("region_decoder" in names) == has_regions
        assert (outputs.pixel_loss is not None) == (outputs.pixel_pred is not None) == has_pixels
        assert (outputs.region_loss is not None) == (outputs.region_pred is not None) == has_regions
        parts = [part for part in (outputs.pixel_loss, outputs.region_loss) if part is not None]
        assert np.allclose(outputs.loss, sum(parts))


def test_the_region_loss_is_weighted(images, regions, mask):
    outputs = forward(toy_model(region_loss_weight=0.3), images, regions, mask)
    assert np.allclose(outputs.loss, outputs.pixel_loss + 0.3 * outputs.region_loss)


def test_predictions_are_those_of_reconstruct_at_the_masked_patches(images, regions, mask):
    model = toy_model(region_mask_ratio=0.5)
    outputs, whole = forward(model, images, regions, mask), reconstruct(model, images, regions, mask)
    pixels = np.take_along_axis(np.asarray(whole.pixels), np.asarray(mask.masked_ids)[..., None], axis=1)
    assert np.allclose(outputs.pixel_pred, pixels, atol=1e-6)
    ids = np.asarray(mask.with_ratio(0.5).masked_ids)[:, None, :, None]
    assert np.allclose(outputs.region_pred, np.take_along_axis(np.asarray(whole.regions), ids, axis=2), atol=1e-6)


@pytest.mark.parametrize("variant", ["length", "batch", "channel"])
def test_regions_may_be_a_bitmask(images, regions, mask, variant):
    bits = np.random.default_rng(0).integers(0, 256, regions.shape[:1] + regions.shape[2:], np.uint8)
    maps = np.stack([bits >> k & 1 for k in range(8)], axis=1).astype(np.float32)
    model = toy_model(region_variant=variant, num_regions=8)
    for call in (forward, reconstruct):
        pair = (jax.tree.leaves(call(model, images, jnp.asarray(x), mask)) for x in (maps, bits))
        for of_maps, of_bits in zip(*pair, strict=True):
            assert np.allclose(of_maps, of_bits, atol=1e-6)


def test_other_image_sizes_than_the_configured_one(regions):
    model = toy_model()
    images, maps = jnp.zeros((1, 48, 24, 3)), jnp.zeros((1, 5, 48, 24))
    outputs = forward(model, images, maps, Mask.random(jax.random.key(0), 1, 18, 0.5))
    assert outputs.memory.shape == (1, 14, 16)
    assert outputs.pixel_pred.shape == (1, 9, 192)


@pytest.mark.parametrize(
    ("size", "image_size", "changes"),
    [
        ("Ti", 224, {}),
        ("S", 384, {"region_width": 64, "region_num_heads": 4}),
        ("B", 448, {"neck_depth": 8, "region_encoder_depth": 2, "region_decoder_depth": 3}),
        ("L", 512, {"region_variant": "batch", "region_width": 256}),
        ("H", 224, {"region_variant": "channel", "feeding_direction": "both", "region_mask_ratio": 0.5}),
    ],
)
def test_shapes_at_every_size(size, image_size, changes):
    """Traced, not run."""
    config = rmae_b.get_config().model
    config.update(vit_sizes.encoder(size) | changes | {"image_size": image_size})
    num_patches = (image_size // config.patch_size) ** 2
    masked, region_masked = (
        num_patches - num_visible_patches(num_patches, r) for r in (0.75, config.region_mask_ratio)
    )

    def run():
        mask = Mask.random(jax.random.key(0), 2, num_patches, 0.75)
        images, regions = jnp.zeros((2, image_size, image_size, 3)), jnp.zeros((2, 8, image_size, image_size))
        return vars(RMAE(config, rngs=nnx.Rngs(0))(images, regions, mask))

    shapes = {name: value.shape for name, value in jax.eval_shape(run).items() if value is not None}
    assert shapes["latent"] == (2, 1 + num_patches - masked, config.width)
    assert shapes["pixel_pred"] == (2, masked, 3 * config.patch_size**2)
    assert shapes["region_pred"] == (2, 8, region_masked, config.patch_size**2)
    assert shapes["memory"] == (2, region_masked, config.region_width)


def test_losses_at_initialisation():
    """White noise in: the pixel loss is near 1.8 with normalised targets, the region loss near 0.7 (ViT-B's widths)."""
    config = rmae_b.get_config().model
    config.update(dtype="float32", depth=2, decoder_depth=2)
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (2, 224, 224, 3))
    regions = (jax.random.uniform(keys[1], (2, 8, 14, 14)) < 0.2).astype(jnp.float32).repeat(16, 2).repeat(16, 3)
    model = jax.jit(lambda: RMAE(config, rngs=nnx.Rngs(0)))()
    outputs = forward(model, images, regions, Mask.random(keys[2], 2, 196, 0.75))
    assert 1.5 < outputs.pixel_loss < 2.1
    assert 0.6 < outputs.region_loss < 0.8


def test_the_number_of_parameters_is_that_of_mae():
    _, params = abstract_model(rmae_b.get_config().model)
    mae = [params[name] for name in ("encoder", "decoder", "pixel_head")]
    assert sum(leaf.size for leaf in jax.tree.leaves(mae)) == mae_parameters(768, 12, 512, 8)


def mae_parameters(width: int, depth: int, decoder_width: int, decoder_depth: int) -> int:
    """Counted from the layers' formulas: linear n*m + m, norm 2n."""

    def blocks(d, n):
        return n * ((3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d)

    encoder = 768 * width + width + width + blocks(width, depth) + 2 * width
    decoder = width * decoder_width + decoder_width + decoder_width + blocks(decoder_width, decoder_depth)
    return encoder + decoder + 2 * decoder_width + decoder_width * 768 + 768


def test_initial_weights():
    config = toy_config(width=192, decoder_width=128, region_width=64)
    params = flat(jax.jit(lambda: RMAE(config, rngs=nnx.Rngs(0)))())
    for name, value in params.items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif name.endswith("scale"):
            assert (value == 1).all(), name
        elif name.endswith("kernel"):
            bound = np.sqrt(6 / sum(value.shape[-2:]))  # Xavier uniform on the whole (fused, flattened) matrix
            assert np.abs(value).max() <= bound, name
            assert np.isclose(value.std(), bound / np.sqrt(3), rtol=0.05), name
    for name in ("encoder/cls_token", "decoder/mask_token"):
        assert 0.015 < params[name].std() < 0.025
    layers = params["encoder/blocks/mlp/fc1/kernel"]
    assert not np.allclose(layers[0], layers[1])


def test_bfloat16_computes_close_to_float32_and_keeps_float32_weights(images, regions, mask):
    exact = toy_model()
    rough = toy_model(dtype="bfloat16")
    assert {value.dtype for value in flat(rough).values()} == {np.dtype("float32")}
    outputs = forward(rough, images, regions, mask)
    assert outputs.latent.dtype == jnp.bfloat16
    assert outputs.loss.dtype == jnp.float32
    assert np.allclose(outputs.loss, forward(exact, images, regions, mask).loss, rtol=0.02)


def test_auto_dtype_is_float32_on_a_cpu(images, regions, mask):
    assert forward(toy_model(dtype="auto"), images, regions, mask).latent.dtype == jnp.float32


def test_regions_are_required_by_objectives_that_use_them(images, mask):
    with pytest.raises(ValueError, match='"rae" objective needs regions'):
        forward(toy_model(objective="rae"), images, None, mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "simclr"}, "model.objective is 'simclr'; it must be one of mae, rae, rmae"),
        ({"region_variant": "width"}, "model.region_variant is 'width'; it must be one of length, batch, channel"),
        ({"region_loss": "l1"}, "model.region_loss is 'l1'"),
        ({"feeding_direction": "none"}, "model.feeding_direction is 'none'"),
        ({"objective": "rae", "feeding_direction": "both"}, "feeding_direction 'both' needs both branches"),
        ({"background_weight": -1.0}, "model.background_weight is -1.0"),
        ({"position_scale": 0.0}, "model.position_scale is 0.0"),
        ({"patch_size": 7}, "model.image_size 32 is not a multiple of model.patch_size 7"),
        ({"num_heads": 5}, "model.width 48"),
        ({"region_width": 18, "region_num_heads": 2}, "model.region_width 18"),
        ({"neck_depth": 0}, "model.neck_depth is 0"),
        ({"dtype": "float31"}, "model.dtype is 'float31'"),
        ({"mask_ratio": 1.0}, "model.mask_ratio: mask ratio 1.0"),
        ({"region_mask_ratio": 0.0}, "model.region_mask_ratio: mask ratio 0.0"),
        ({"patch_size": 0}, "model.patch_size is 0; it must be at least 1"),
        ({"region_num_heads": 0}, "model.region_num_heads is 0"),
        ({"num_regions": 33}, "model.num_regions is 33"),
    ],
)
def test_keys_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        toy_model(**changes)


@pytest.mark.parametrize(("size", "millions"), [("Ti", 5.5), ("S", 21.7), ("B", 85.8), ("L", 303.3), ("H", 630.8)])
def test_presets_have_the_published_number_of_parameters(size, millions):
    """Encoders without classifier, as timm counts them (num_classes=0) less its learned position table."""
    config = rmae_b.get_config().model
    config.update(vit_sizes.encoder(size))
    model = nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.to_pure_dict(nnx.state(model.encoder))))
    positions = ((224 // config.patch_size) ** 2 + 1) * config.width
    assert round((count + positions) / 1e6, 1) == millions


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="unknown ViT size 'XL'; choose one of Ti, S, B, L, H"):
        vit_sizes.encoder("XL")


def test_inputs_are_unpacked_on_the_device():
    bits = np.random.default_rng(0).integers(0, 1 << 12, (2, 5, 4)).astype(np.uint16)
    maps = np.asarray(unpack_regions(jnp.asarray(bits), 12))
    for k in range(12):
        assert np.array_equal(maps[:, k], bits // 2**k % 2)
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    expected = (images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(normalize(jnp.asarray(images)), expected, atol=1e-5)
    assert np.allclose(denormalize(normalize(jnp.asarray(images))), images / 255.0, atol=1e-5)

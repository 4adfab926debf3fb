"""Fine-tuning against timm: stochastic depth, decay of the learning rate by layers, mixup and CutMix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import toy_model

from rmae_jax.data import TFRecordSource
from rmae_jax.evaluate import EvaluationData, Finetune
from rmae_jax.evaluate.classifier import Classifier, drop, is_decayed, layer_scales
from rmae_jax.evaluate.finetune import mix
from rmae_jax.evaluate.mixup import draw_weights

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module")
def params():
    classifier = Classifier(toy_model().encoder, 3, 0.1, rngs=nnx.Rngs(0))
    return nnx.to_pure_dict(nnx.split(classifier)[1])


def test_learning_rates_fall_as_timm_s_do(params):
    """timm's groups, by name, for a ViT of the same depth whose head has a norm of its own."""
    from timm.optim import param_groups_layer_decay

    vit = timm.create_model(
        "vit_tiny_patch16_224", depth=3, embed_dim=48, num_heads=4, num_classes=3, global_pool="avg", fc_norm=True
    )
    names = {id(parameter): name for name, parameter in vit.named_parameters()}
    groups = param_groups_layer_decay(vit, 0.05, no_weight_decay_list={"cls_token", "pos_embed"}, layer_decay=0.65)
    expected = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    scales, decayed = layer_scales(params, 3, 0.65), is_decayed(params)
    encoder, blocks = scales["encoder"], scales["encoder"]["blocks"]

    def check(name, scale, is_decayed):
        assert np.allclose(scale, expected[name][0]), name
        assert is_decayed == (expected[name][1] > 0), name

    check("cls_token", encoder["cls_token"], decayed["encoder"]["cls_token"])
    for ours, theirs in (("kernel", "weight"), ("bias", "bias")):
        of_encoder, of_blocks = decayed["encoder"], decayed["encoder"]["blocks"]
        check(f"patch_embed.proj.{theirs}", encoder["patch_embed"][ours], of_encoder["patch_embed"][ours])
        check(f"head.{theirs}", scales["head"][ours], decayed["head"][ours])
        for block in range(3):
            check(f"blocks.{block}.mlp.fc1.{theirs}", blocks["mlp"]["fc1"][ours][block], of_blocks["mlp"]["fc1"][ours])
    check("fc_norm.weight", scales["norm"]["scale"], decayed["norm"]["scale"])
    check("blocks.2.norm1.bias", blocks["norm1"]["bias"][2], decayed["encoder"]["blocks"]["norm1"]["bias"])


def test_the_optimizer_scales_whole_updates(params):
    """With equal gradients, Adam's first updates differ by the layers' scales alone, weight decay included."""
    options = {"weight_decay": 0.0, "base_lr": 1.0, "layer_decay": 0.5}
    optimizer = Finetune(**options).optimizer(params, 3, 10, 0, 256)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    of_blocks = np.abs(updates["encoder"]["blocks"]["norm1"]["bias"])
    assert np.allclose(of_blocks, np.array([[0.125], [0.25], [0.5]]), atol=1e-5)
    assert np.allclose(np.abs(updates["head"]["kernel"]), 1, atol=1e-5)
    assert np.allclose(np.abs(updates["encoder"]["cls_token"]), 0.0625, atol=1e-5)


def test_dropping_keeps_the_mean_and_whole_images():
    x = jnp.ones((2000, 3, 2))
    out = np.asarray(drop(x, jnp.float32(0.25), jax.random.key(0)))
    assert set(np.round(np.unique(out), 4)) == {0, np.float32(1.3333)}
    assert (out == out[:, :1, :1]).all()
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert np.array_equal(drop(x, jnp.float32(0), jax.random.key(0)), x)


def test_without_dropping_training_and_testing_agree():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32))
    classifier = Classifier(toy_model().encoder, 3, 0.0, rngs=nnx.Rngs(0))
    forward = jax.jit(lambda model, *inputs: model(*inputs))
    assert np.allclose(forward(classifier, images), forward(classifier, images, jax.random.key(0)), atol=1e-6)
    # By the formula: the mean of the patches' tokens before the encoder's last norm.
    encoder = toy_model().encoder
    blocks = jax.jit(lambda e, x: jax.lax.scan(lambda x, b: (b(x), None), e.embed(x), e.blocks)[0])(encoder, images)
    pooled = np.asarray(blocks)[:, 1:].mean(axis=1)
    normed = (pooled - pooled.mean(-1, keepdims=True)) / np.sqrt(pooled.var(-1, keepdims=True) + 1e-6)
    expected = normed @ np.asarray(classifier.head.kernel) + np.asarray(classifier.head.bias)
    assert np.allclose(forward(classifier, images), expected, atol=1e-5)


def test_mixing_is_timm_s():
    """timm mixes each image with the one at the other end of the batch, and targets by the part that is kept."""
    torch = pytest.importorskip("torch")
    from timm.data.mixup import mixup_target

    images, labels = np.random.default_rng(1).normal(size=(4, 32, 32, 3)).astype(np.float32), np.array([0, 2, 1, 1])
    for seed in range(6):
        weights = draw_weights(np.random.default_rng(seed), 32, 0.8, 1.0)
        kept = weights.mean()
        mixed = np.asarray(mix(jnp.asarray(images), jnp.asarray(weights)))
        if 0 in weights:  # CutMix: every pixel is of one of the two
            assert set(np.unique(weights)) <= {0, 1}
            assert all(np.isin(mixed[i], [images[i], images[3 - i]]).all() for i in range(4))
        else:
            assert np.allclose(mixed, images * kept + images[::-1] * (1 - kept), atol=1e-5)
        target = Finetune().targets(jnp.asarray(labels), 3)
        expected = mixup_target(torch.tensor(labels), 3, lam=float(kept), smoothing=0.1)
        assert np.allclose(mix(target, jnp.asarray(kept)), expected.numpy(), atol=1e-5)


def test_how_much_is_mixed():
    draws = [draw_weights(np.random.default_rng(seed), 32, 0.8, 1.0) for seed in range(2000)]
    is_cut = np.array([len(np.unique(weights)) == 2 or set(np.unique(weights)) <= {0, 1} for weights in draws])
    assert is_cut.mean() == pytest.approx(0.5, abs=0.05)
    kept = np.array([weights.mean() for weights in draws])
    assert kept[~is_cut].mean() == pytest.approx(0.5, abs=0.05)
    assert kept[is_cut].mean() > 0.5  # boxes are cut by the image's edge
    assert (draw_weights(np.random.default_rng(0), 32, 0.0, 0.0) == 1).all()


def test_fine_tuning_learns_and_leaves_the_model_alone(labelled):
    model = toy_model()
    before = np.array(model.encoder.patch_embed.kernel[...])
    data = EvaluationData(TFRecordSource(labelled, "train"), TFRecordSource(labelled, "validation"))
    task = Finetune(epochs=12.0, warmup_epochs=1.0, batch_size=12, base_lr=0.05, mixup=0.2, cutmix=0.0)
    found = task(model, data)
    assert found["top1"] > 0.8
    assert task(model, data) == found
    assert np.array_equal(before, model.encoder.patch_embed.kernel[...])
    with pytest.raises(ValueError, match="drop_path is 1.0"):
        Finetune(drop_path=1.0)(model, data)

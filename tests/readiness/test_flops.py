"""Matrix products, against formulas."""

import jax
import jax.numpy as jnp
import ml_collections
import pytest
from toy import toy_config

from configs import rmae_b
from rmae_jax.readiness.compiled_step import abstract_batch, for_accelerator
from rmae_jax.readiness.flops import product_flops
from rmae_jax.training.mesh import training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.recipe import Durations
from rmae_jax.training.step import abstract_state, train_step


def count(function, *shapes) -> int:
    return product_flops(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)).jaxpr)


def of_a_step(model: ml_collections.ConfigDict, **keys: str) -> int:
    """Of four images, on one device."""
    config = rmae_b.get_config()
    config.update({"model": model, "batch_size": 4} | keys)
    mesh = training_mesh(config)
    optimizer = adamw(config, Durations(100, 10))
    step = train_step(config, optimizer, mesh)
    traced = step.trace(abstract_state(config, optimizer, mesh), abstract_batch(config, mesh))
    return product_flops(traced.jaxpr.jaxpr)


def test_products_by_hand():
    assert count(jnp.matmul, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
    assert count(jax.jit(lambda a, b: jnp.einsum("bhnd,bhmd->bhnm", a, b)), (2, 3, 5, 7), (2, 3, 11, 7)) == 4620
    assert count(lambda a, b: jax.lax.scan(lambda a, b: (a @ b, None), a, b)[0], (3, 3), (6, 3, 3)) == 6 * 54
    loss = jax.checkpoint(lambda a, b: jnp.sum(jnp.sin(jnp.sin(a @ b) @ b)))
    assert count(lambda a, b: loss(a, b), (3, 3), (3, 3)) == 2 * 54
    both = jax.value_and_grad(loss, argnums=(0, 1))
    assert count(both, (3, 3), (3, 3)) == (2 + 4 + 2) * 54  # the second is made twice, too
    assert count(lambda a, b: both(a, b)[1], (3, 3), (3, 3)) == (4 + 2) * 54  # nobody asks for the value


def test_products_in_a_loop_of_unknown_length():
    with pytest.raises(ValueError, match="inside of a while"):
        count(lambda a: jax.lax.while_loop(lambda a: a[0, 0] < 9, lambda a: a @ a, a), (3, 3))


def test_a_step_of_mae():
    """12 n d² + 2 n² d multiply-adds of a block (Vaswani et al.), three times for forward and backward pass."""
    model = toy_config(objective="mae", dtype="auto")
    found = {remat: of_a_step(model, remat=remat) for remat in ("none", "full")}

    def block(tokens: int, width: int) -> int:
        return 2 * (12 * tokens * width**2 + 2 * tokens**2 * width)

    pixels = 3 * model.patch_size**2
    patches = (model.image_size // model.patch_size) ** 2
    visible = patches // 4
    masked, wide, narrow = patches - visible, model.width, model.decoder_width
    encoder, decoder = block(visible + 1, wide), block(patches + 1, narrow)
    saved = 2 * (2 * narrow + 8 * narrow) * narrow * (visible + 1)  # the last block looks at masked patches alone
    saved += 2 * 2 * (visible + 1) * (patches + 1) * narrow
    forward = model.depth * encoder + model.decoder_depth * decoder - saved
    forward += 2 * ((visible + 1) * wide * narrow + masked * narrow * pixels)
    embedding = 2 * visible * pixels * wide  # whose input needs no gradient
    expected = 4 * (3 * forward + 2 * embedding)
    print(found, expected)
    assert abs(found["none"] / expected - 1) < 0.01
    again = model.depth * encoder + model.decoder_depth * decoder - saved
    again -= 8 * (model.depth * (visible + 1) * wide**2 + (model.decoder_depth - 1) * (patches + 1) * narrow**2)
    again -= 8 * masked * narrow**2  # a block's last layer makes nothing that its gradients need
    assert abs((found["full"] - found["none"]) / (4 * again) - 1) < 0.02


def test_a_loop_with_the_kernel_makes_projections_twice():
    """4 n d² multiply-adds of a block: of queries, keys, values and output."""
    model = toy_config(objective="mae")
    scanned, unrolled = (of_a_step(model, attention="kernel", blocks=way) for way in ("scanned", "unrolled"))
    patches = (model.image_size // model.patch_size) ** 2
    tokens, masked = patches + 1, patches - patches // 4
    wide, narrow = model.width, model.decoder_width
    again = 4 * model.depth * (patches // 4 + 1) * wide**2 + 4 * (model.decoder_depth - 1) * tokens * narrow**2
    again += 2 * (masked + tokens) * narrow**2  # the last block has queries of masked patches alone
    assert scanned - unrolled == 4 * 2 * again
    assert of_a_step(model, blocks="scanned") == of_a_step(model, blocks="unrolled")


def test_dtypes_are_the_chips_own():
    config = rmae_b.get_config()
    assert for_accelerator(config).model.dtype == "bfloat16"
    config.model.dtype = "float32"
    assert for_accelerator(config).model.dtype == "float32"

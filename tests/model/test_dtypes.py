"""bfloat16 where it is fast, float32 where it matters: read off the program, forward and backward."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from toy import toy_config

from rmae_jax.model import RMAE, Mask


def operations(jaxpr):
    """Every operation of a program, those inside of loops and calls included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from operations(inner)


@pytest.mark.parametrize("variant", ["length", "channel"])
def test_parameters_and_masks_are_the_same_in_programs_of_float64(variant):
    config = toy_config(region_variant=variant)
    mask = Mask.random(jax.random.key(0), 2, 16, 0.75)
    with jax.enable_x64(True):
        model = nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0)))
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
        again = Mask.random(jax.random.key(0), 2, 16, 0.75)
    np.testing.assert_array_equal(mask.permutation, again.permutation)


def test_matrices_are_multiplied_in_bfloat16_and_the_rest_is_float32():
    config = toy_config(dtype="bfloat16", region_decoder_depth=2)
    model = nnx.eval_shape(lambda: RMAE(config, rngs=nnx.Rngs(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype("float32")}

    def loss(model, images, regions, permutation):
        outputs = model(images, regions, Mask.from_permutation(permutation, 0.75))
        return outputs.loss, vars(outputs)

    shapes = [((2, 32, 32, 3), "float32"), ((2, 5, 32, 32), "float32"), ((2, 16), "int32")]
    inputs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    program, (grads, outputs) = jax.make_jaxpr(jax.grad(loss, has_aux=True), return_shape=True)(model, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    assert {outputs[name].dtype for name in ("latent", "pixel_pred", "region_pred")} == {jnp.dtype("bfloat16")}
    assert {outputs[name].dtype for name in ("loss", "pixel_loss", "region_loss")} == {jnp.dtype("float32")}

    done = list(operations(program.jaxpr))
    scores = {x.invars[0].aval.shape for x in done if x.primitive.name == "reduce_max"}  # softmax's maximum
    work, precise = {"bfloat16": 0, "float32": 0}, set()
    for operation in done:
        name, types = operation.primitive.name, {str(x.aval.dtype) for x in operation.invars}
        shapes = {x.aval.shape for x in operation.invars}
        # LayerNorm, cross-entropy, softmax; the GELU's gradient has an exponential too, of another shape.
        if name in ("rsqrt", "log1p", "reduce_max") or (name == "exp" and shapes & scores):
            precise.add(name)
            assert types == {"float32"}, operation
        if name == "dot_general":
            contracted = operation.params["dimension_numbers"][0][0]
            length = math.prod(operation.invars[0].aval.shape[d] for d in contracted)
            products = length * math.prod(operation.outvars[0].aval.shape)
            work["float32" if "float32" in types else "bfloat16"] += products
    assert precise == {"rsqrt", "log1p", "reduce_max", "exp"}
    assert work["bfloat16"] > 0.9 * sum(work.values()), work

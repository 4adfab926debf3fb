"""Attention as a TPU kernel: its values and gradients, interpreted, against formulas; and that it compiles for TPUs."""

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmae_jax.model.ops.plain_attention import attend
from rmae_jax.model.ops.tpu_attention import fits, tpu_attention
from rmae_jax.readiness import topologies


def reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, num_heads: int) -> np.ndarray:
    """softmax(q k^T / sqrt(d)) v of each head, in float64."""
    q, k, v = (np.asarray(x, np.float64).reshape(*x.shape[:2], num_heads, -1) for x in (q, k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(axis=-1, keepdims=True), v)
    return out.reshape(*out.shape[:2], -1)


def arrays(batch: int, queries: int, keys: int, width: int) -> list[jax.Array]:
    """q, k, v, and a gradient of the output. Scores reach 10 or so."""
    names = jax.random.split(jax.random.key(queries), 4)
    return [
        2 * jax.random.normal(name, (batch, n, width))
        for name, n in zip(names, (queries, keys, keys, queries), strict=True)
    ]


SIZES = [  # batch, queries, keys, width, heads
    (2, 197, 197, 128, 4),  # MAE's decoder: heads of 32
    (1, 147, 197, 256, 8),  # its last block
    (3, 50, 50, 128, 2),  # a ViT's heads of 64, two side by side
    (2, 257, 257, 128, 2),
    (2, 8, 50, 128, 8),  # heads of 16, eight side by side
    (5, 49, 49, 256, 16),
    (2, 8, 8, 64, 2),
    (2, 65, 65, 192, 3),  # registers that no whole number of heads fills
    (1, 30, 77, 32, 4),
]


@pytest.mark.parametrize(("batch", "queries", "keys", "width", "heads"), SIZES)
def test_values_and_gradients(batch, queries, keys, width, heads):
    q, k, v, given = arrays(batch, queries, keys, width)
    assert fits(queries, keys, width, heads)
    out, gradients = jax.vjp(lambda *x: tpu_attention(x, heads, interpret=True), q, k, v)
    np.testing.assert_allclose(out, reference(q, k, v, heads), rtol=0, atol=1e-5)
    expected, expected_gradients = jax.vjp(lambda *x: attend(*x, heads), q, k, v)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
    for found, wanted in zip(gradients(given), expected_gradients(given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_gradient_is_the_slope_of_the_reference():
    q, k, v, given = (np.asarray(x, np.float64) for x in arrays(1, 9, 11, 16))
    steps = np.random.default_rng(0).standard_normal((3, 1, 11, 16))
    steps[0, :, 9:] = 0

    def total(t: float) -> float:
        moved = (q + t * steps[0][:, :9], k + t * steps[1], v + t * steps[2])
        return float((reference(*moved, 2) * given).sum())

    slope = (total(1e-4) - total(-1e-4)) / 2e-4
    single = [jnp.asarray(x, jnp.float32) for x in (q, k, v)]
    _, gradients = jax.vjp(lambda *x: tpu_attention(x, 2, interpret=True), *single)
    found = gradients(jnp.asarray(given, jnp.float32))
    assert sum(float((g * s[:, : g.shape[1]]).sum()) for g, s in zip(found, steps, strict=True)) == pytest.approx(
        slope, rel=1e-4
    )


def test_packed_arrays_are_the_same():
    q, k, v, given = arrays(2, 50, 50, 256)
    expected, gradients = jax.vjp(lambda *x: tpu_attention(x, 4, interpret=True), q, k, v)
    to_q, to_k, to_v = gradients(given)
    for parts, wanted in (
        ((jnp.concatenate([q, k, v], axis=2),), (jnp.concatenate([to_q, to_k, to_v], axis=2),)),
        ((q, jnp.concatenate([k, v], axis=2)), (to_q, jnp.concatenate([to_k, to_v], axis=2))),
    ):
        out, of_parts = jax.vjp(lambda parts: tpu_attention(parts, 4, interpret=True), parts)
        np.testing.assert_array_equal(out, expected)
        for found, want in zip(of_parts(given)[0], wanted, strict=True):
            np.testing.assert_array_equal(found, want)


def test_bfloat16_is_as_near_as_that_of_the_plain_formula():
    q, k, v, _ = (x.astype(jnp.bfloat16) for x in arrays(2, 197, 197, 128))
    exact = reference(*(np.asarray(x, np.float32) for x in (q, k, v)), 4)
    errors = [
        np.abs(np.asarray(out, np.float64) - exact).mean()
        for out in (tpu_attention((q, k, v), 4, interpret=True), attend(q, k, v, 4))
    ]
    assert errors[0] <= errors[1]


@pytest.mark.parametrize(
    ("queries", "keys", "width", "heads"),
    [(1025, 1025, 128, 2), (50, 50, 1280, 16), (50, 50, 8, 2)],
    ids=["long", "ViT-H", "narrow"],
)
def test_sizes_that_the_kernel_is_not_made_for(queries, keys, width, heads):
    assert not fits(queries, keys, width, heads)


COMPILED = """
import jax, jax.numpy as jnp
from rmae_jax.model.ops.tpu_attention import tpu_attention
from rmae_jax.readiness import topologies

def gradients(parts, given):
    def body(x, part):
        return x, jax.vjp(lambda part: tpu_attention(part, {heads}), part)[1](given)[0]
    return jax.lax.scan(body, 0, parts)[1]

for chip in ("v5e:1x1", "v6e:1x1"):
    place = jax.sharding.SingleDeviceSharding(topologies.devices(topologies.parse(chip))[0])
    shapes = [jax.ShapeDtypeStruct((2, *shape), jnp.bfloat16) for shape in {shapes}]
    given = jax.ShapeDtypeStruct({given}, jnp.bfloat16)
    text = jax.jit(gradients, in_shardings=place, out_shardings=place).lower(tuple(shapes), given).compile().as_text()
    assert "tpu_custom_call" in text and "tpu_attention_gradient" in text
"""


@pytest.mark.parametrize(
    ("shapes", "given", "heads"),
    [
        ([(4, 197, 1536)], (4, 197, 512), 16),
        ([(4, 147, 512), (4, 197, 1024)], (4, 147, 512), 16),
        ([(4, 50, 2304)], (4, 50, 768), 12),
        ([(16, 49, 384)], (16, 49, 128), 8),
    ],
    ids=["decoder", "last block", "encoder", "regions"],
)
def test_it_compiles_for_tpus(shapes, given, heads):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install -e .[tpu]")
    process = subprocess.run(
        [sys.executable, "-c", COMPILED.format(shapes=shapes, given=given, heads=heads)],
        env=os.environ
        | topologies.ENVIRONMENT
        | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr

"""Softmax attention over short sequences as a TPU kernel, which recomputes scores instead of storing them.

One grid step holds all tokens of some images; scores never leave the chip. Scores are transposed, (keys, queries): the
softmax then reduces over rows, which needs no shuffle in a vector unit, and only one of the five products that need
scores needs them transposed again. Heads are narrower than the 128 lanes of a register, so 128 // head width of them
are read together. A head is selected by zeroing the other lanes of a factor, which costs nothing: a matrix unit
contracts 128 lanes at a time in any case. Heads of fewer than 65 tokens share the lanes of one matrix of scores.
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float, Int

from rmae_jax.model.ops.activation_names import ATTENTION

LANES = 128
_NT, _NN = (((1,), (1,)), ((), ())), (((1,), (0,)), ((), ()))  # a b^T and a b
_VMEM = 6 * 2**20  # bytes of blocks in a kernel, of 16 MiB; they are held twice, since the next blocks are prefetched
Rows = Float[Array, "tokens lanes"]
Queries, Keys = Float[Array, "queries lanes"], Float[Array, "keys lanes"]


def tpu_attention(
    parts: tuple[Float[Array, "batch _ _"], ...], num_heads: int, *, interpret: bool = False
) -> Float[Array, "batch queries width"]:
    """Computes softmax(q k^T / sqrt(head width)) v in each head, like `attend`; the softmax is in float32.

    The backward pass recomputes the softmax, so that only q, k and v are saved.

    Args:
      parts: (q, k, v), q of (B, queries, width), k and v of (B, keys, width); or (q, kv) or (qkv,), the outputs of
        linear layers, whose columns are then not copied.
      num_heads: the number of heads; `fits` must be true.
      interpret: whether to run the kernel in an interpreter, slowly, without a TPU.
    """
    return _saved(_attention(parts, num_heads, interpret))


def fits(queries: int, keys: int, width: int, num_heads: int) -> bool:
    """Returns whether the kernel supports these sizes: a head's scores fit on the chip, and heads fit in registers."""
    each = width // num_heads
    return max(queries, keys) <= 512 and each % 8 == 0 and _group_lanes(width, num_heads) <= 2 * LANES


@jax.custom_vjp
def _saved(attended: Array) -> Array:
    """Names the kernel's result `ATTENTION` while it is cast to integers.

    JAX rounds saved floats to their own type, which XLA would do in a separate pass after the kernel.
    """
    return _saved_forward(attended)[0]


def _saved_forward(attended: Array) -> tuple[Array, None]:
    bits = jax.lax.bitcast_convert_type(attended, f"uint{8 * attended.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(checkpoint_name(bits, ATTENTION), attended.dtype), None


_saved.defvjp(_saved_forward, lambda _, d: (d,))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _attention(parts: tuple[Array, ...], num_heads: int, interpret: bool) -> Array:
    shape = (*parts[0].shape[:2], sum(x.shape[2] for x in parts) // 3)
    out = jax.ShapeDtypeStruct(shape, parts[0].dtype)
    return _call(_forward, "tpu_attention", parts, [out], num_heads, interpret)[0]


def _attention_forward(parts: tuple[Array, ...], num_heads: int, interpret: bool) -> tuple[Array, tuple[Array, ...]]:
    return _attention(parts, num_heads, interpret), parts


def _attention_backward(
    num_heads: int, interpret: bool, parts: tuple[Array, ...], given: Array
) -> tuple[tuple[Array, ...]]:
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in parts]
    return (_call(_backward, "tpu_attention_gradient", (*parts, given), shapes, num_heads, interpret),)


_attention.defvjp(_attention_forward, _attention_backward)


def _call(
    compute: Callable[..., list[Array]],
    name: str,
    inputs: Sequence[Array],
    outputs: Sequence[jax.ShapeDtypeStruct],
    num_heads: int,
    interpret: bool,
) -> tuple[Array, ...]:
    """Runs `compute` on q, k, v, further inputs and the head width, for every group of heads of every image."""
    width = min(x.shape[-1] for x in (*inputs, *outputs))
    lanes = _group_lanes(width, num_heads)
    batch, groups = len(inputs[0]), width // lanes
    size = sum(x.dtype.itemsize * _round_up(x.shape[1], 8) * _round_up(x.shape[2], LANES) for x in (*inputs, *outputs))
    images = max(n for n in range(1, batch + 1) if batch % n == 0 and (n == 1 or n * size <= _VMEM))

    iterations = images * groups
    # With few tokens, units wait for each other. Several groups at once give the compiler instructions to interleave.
    at_once = math.gcd(iterations, 4) if outputs[0].shape[1] <= LANES // 2 else 1

    def kernel(*refs: jax.Ref) -> None:
        def parts(refs: Sequence[jax.Ref], iteration: Array) -> list:  # a wider array holds several parts side by side
            image, first = iteration, 0
            if groups > 1:
                image, first = (
                    jax.lax.div(iteration, groups),
                    pl.multiple_of(jax.lax.rem(iteration, groups) * lanes, lanes),
                )
            starts = [(ref, start) for ref in refs for start in range(0, ref.shape[-1], width)]
            return [ref.at[image, :, pl.ds(start + first, lanes)] for ref, start in starts]

        def body(i: Array, _: None) -> None:
            each = [i * at_once + j for j in range(at_once)]
            given = [[part[...] for part in parts(refs[: len(inputs)], iteration)] for iteration in each]
            made = [compute(*values, width // num_heads) for values in given]
            for iteration, values in zip(each, made, strict=True):
                for part, value in zip(parts(refs[len(inputs) :], iteration), values, strict=True):
                    part[...] = value.astype(part.dtype)

        jax.lax.fori_loop(0, iterations // at_once, body, None)

    def spec(x: Array | jax.ShapeDtypeStruct) -> pl.BlockSpec:
        return pl.BlockSpec((images, *x.shape[1:]), lambda i: (i, 0, 0))

    made = pl.pallas_call(
        kernel,
        grid=(batch // images,),
        in_specs=[spec(x) for x in inputs],
        out_specs=[spec(x) for x in outputs],
        out_shape=list(outputs),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        name=name,
        interpret=interpret,
    )(*inputs)
    return tuple(made)


# Below, each stage runs for all heads before the next stage, instead of all stages for one head: the compiler mostly
# keeps the order of instructions, and would wait for one head's products before it starts the next head's.


def _forward(q: Queries, k: Keys, v: Keys, each: int) -> list[Queries]:
    """Computes the output of a group of heads, each `each` lanes wide."""
    values, together = _transposed(v), _head_sets(q, each)
    scores = [_scores(k, heads.rows(q), each) for heads in together]
    weights = [_weights(x) for x in scores]
    columns = [
        heads.columns(_dot(values[heads.lanes], numerators.astype(v.dtype), _NN) * inverse)
        for heads, (numerators, inverse) in zip(together, weights, strict=True)
    ]
    return [_rows_from_columns(columns, q)]


def _backward(q: Queries, k: Keys, v: Keys, given: Queries, each: int) -> list[Queries | Keys]:
    """Computes the gradients of q, k and v."""
    keys, to_q, to_k, to_v = _transposed(k), [], 0, 0
    together = _head_sets(q, each)
    for pair in (together[i : i + 2] for i in range(0, len(together), 2)):  # more would need too much memory
        rows = [(heads.rows(q), heads.rows(given)) for heads in pair]
        products = [(_scores(k, q_rows, each), _dot(v, given_rows, _NT)) for q_rows, given_rows in rows]
        found = []
        for scores, to_weights in products:
            numerators, inverse = _weights(scores)
            mean = (numerators * to_weights).sum(axis=0, keepdims=True) * inverse
            weights = numerators * inverse
            found.append((weights.astype(v.dtype), (weights * (to_weights - mean)).astype(v.dtype)))
        for heads, (q_rows, given_rows), (weights, to_scores) in zip(pair, rows, found, strict=True):
            to_v += _dot(weights, given_rows, _NN)
            to_k += _dot(to_scores, q_rows, _NN)
            to_q.append(heads.columns(_dot(keys[heads.lanes], to_scores, _NN)))
    return [_rows_from_columns(to_q, q) * each**-0.5, to_k * each**-0.5, to_v]


def _scores(k: Keys, q: Queries, each: int) -> Float[Array, "keys queries"]:
    """Computes the scores, in units of log 2."""
    return _dot(k, q, _NT) * (each**-0.5 * math.log2(math.e))


def _weights(scores: Float[Array, "keys queries"]) -> tuple[Float[Array, "keys queries"], Float[Array, "1 queries"]]:
    """Computes a softmax over the keys, as numerators and the inverse of their sums."""
    numerators = jnp.exp2(scores - scores.max(axis=0, keepdims=True))
    return numerators, 1 / numerators.sum(axis=0, keepdims=True)


class _Heads(NamedTuple):
    """Heads whose queries are side by side in one matrix of scores."""

    first: int
    count: int
    each: int
    slot: int  # columns of a head; equal to the number of queries if there is one head

    @property
    def lanes(self) -> slice:
        return slice(self.first * self.each, (self.first + self.count) * self.each)

    def rows(self, x: Rows) -> Float[Array, "columns lanes"]:
        """Stacks one copy of x per head, with the other heads' lanes set to zero."""
        lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
        heads = range(self.first, self.first + self.count)
        rows = [jnp.where(_within(lane, head * self.each, self.each), x, 0) for head in heads]
        gap = [jnp.zeros((self.slot - len(x), x.shape[1]), x.dtype)] if self.slot > len(x) else []
        return jnp.concatenate([part for row in rows for part in (row, *gap)])

    def columns(self, x: Float[Array, "lanes columns"]) -> Float[Array, "lanes columns"]:
        """Sets entries to zero whose row belongs to one head and whose column to another."""
        if self.count == 1:
            return x
        lane, column = (jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
        heads = range(self.count)
        own = [_within(lane, i * self.each, self.each) & _within(column, i * self.slot, self.slot) for i in heads]
        return jnp.where(reduce(operator.or_, own), x, 0)


def _head_sets(q: Rows, each: int) -> list[_Heads]:
    """Splits a group of heads into sets whose queries fit together in a register's lanes."""
    queries, heads = len(q), q.shape[1] // each
    slot = max(8, 1 << (queries - 1).bit_length())
    count = math.gcd(max(1, LANES // slot), heads)
    return [_Heads(first, count, each, slot if count > 1 else queries) for first in range(0, heads, count)]


def _rows_from_columns(columns: list[Float[Array, "_ columns"]], q: Rows) -> Rows:
    """Converts columns, with each head's lanes as rows, back to one row per query."""
    rows = jnp.concatenate(columns).T
    slot = max(8, 1 << (len(q) - 1).bit_length()) if len(rows) > len(q) else len(q)
    return reduce(operator.add, [rows[i : i + len(q)] for i in range(0, len(rows), slot)])


def _within(index: Int[Array, "rows columns"], first: int, count: int) -> Bool[Array, "rows columns"]:
    return (index >= first) & (index < first + count)


def _transposed(x: Rows) -> Float[Array, "lanes tokens"]:
    return x.astype(jnp.float32).T.astype(x.dtype)


def _dot(a: Array, b: Array, dimensions: tuple) -> Float[Array, "rows columns"]:
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _group_lanes(width: int, num_heads: int) -> int:
    """Returns the number of lanes that are read together: whole heads and whole registers, if the width allows."""
    lanes = math.lcm(width // num_heads, LANES)
    return lanes if width % lanes == 0 else width


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple

"""Checksums of arrays, computed where the arrays lie: the same on any mesh and any number of processes."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, PyTree, UInt32


def checksums(tree: PyTree) -> dict[str, int]:
    """A number of 32 bits for each array of a tree, by its path ("params/encoder/cls_token").

    Any change of a single element changes the number; other changes escape it once in 4 billion.
    """
    named, _ = jax.tree_util.tree_flatten_with_path(tree)
    # Waits for each: of many small programs at once, whose devices wait for each other, CPU devices run out of threads.
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): int(_sum_on_all_processes(leaf.sharding)(leaf))
        for path, leaf in named
    }


@functools.cache
def _sum_on_all_processes(place: Sharding) -> Callable[[Array], Array]:
    """The sum of an array that lies so, known to every process. Compiled once a shape: most shapes recur."""
    if isinstance(place, NamedSharding):
        place = NamedSharding(place.mesh, PartitionSpec())
    return jax.jit(_sum, out_shardings=place)


def _sum(x: Array) -> UInt32[Array, ""]:
    """Sums a hash of each element's bits and place: integers, whose sum does not depend on the order."""
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * min(4, x.dtype.itemsize)}").astype(jnp.uint32)
    index = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        index = index * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.sum(_mixed(bits + index * np.uint32(0x9E3779B9)), dtype=jnp.uint32)


def _mixed(x: Array) -> Array:
    """MurmurHash3's last step: no two numbers give the same, and every bit depends on all."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)

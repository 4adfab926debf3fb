"""Checksums of arrays, computed on their devices; the same on any mesh and for any number of processes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, PyTree, UInt32


def checksums(tree: PyTree) -> dict[str, int]:
    """Computes a 32-bit checksum of each array of a tree, keyed by its path ("params/encoder/cls_token").

    Any change of a single element changes the checksum; other changes go undetected once in 4 billion.
    """
    # int() waits for each: CPU devices run out of threads with many small programs whose devices wait for each other.
    return {name: int(_replicated_sum(leaf.sharding)(leaf)) for name, leaf in named_leaves(tree).items()}


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree, keyed by their paths ("params/encoder/cls_token")."""
    named, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in named}


@functools.cache
def _replicated_sum(place: Sharding) -> Callable[[Array], Array]:
    """Returns a function that sums an array of this sharding for every process. Compiled once per shape; most recur."""
    if isinstance(place, NamedSharding):
        place = NamedSharding(place.mesh, PartitionSpec())
    return jax.jit(_sum, out_shardings=place)


def _sum(x: Array) -> UInt32[Array, ""]:
    """Sums a hash of each element's bits and position; a sum of integers does not depend on the order."""
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * min(4, x.dtype.itemsize)}").astype(jnp.uint32)
    index = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        index = index * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.sum(_murmur_finaliser(bits + index * np.uint32(0x9E3779B9)), dtype=jnp.uint32)


def _murmur_finaliser(x: Array) -> Array:
    """Applies MurmurHash3's last step: it is one-to-one, and every bit of the result depends on all bits of x."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)

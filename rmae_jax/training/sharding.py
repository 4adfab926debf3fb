"""Sharding of parameters over the mesh's "fsdp" axis, and gathering of whole parameters.

The optimiser's moments have the names of their parameters, so that they are sharded alike.
"""

import dataclasses
from functools import partial
from typing import TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from rmae_jax.training.mesh import FSDP

T = TypeVar("T")

# Last name of a parameter's path: the dimension that is split. It is counted from the end, because stacked blocks have
# a leading dimension of layers. Matrices are split by rows, so that gathering concatenates contiguous parts. Other
# parameters (biases, LayerNorms, tokens: less than 0.2 % of a ViT-B) stay whole, as do those that do not divide evenly.
RULES = {"kernel": -2}


def split_dimension(name: str, shape: tuple[int, ...], parts: int) -> int | None:
    """Returns the dimension, counted from the end, along which a parameter is split into `parts`, or None if whole."""
    dimension = RULES.get(name)
    if parts == 1 or dimension is None or shape[dimension] % parts:
        return None
    return dimension


def specs(tree: PyTree, mesh: Mesh) -> PyTree[PartitionSpec]:
    """Returns the partition specs of a tree's leaves: nested dicts of parameters, or a tree that contains such dicts.

    Args:
      tree: the arrays or their shapes (jax.ShapeDtypeStruct).
      mesh: a mesh with an axis "fsdp".
    """

    def spec(path: tuple, leaf: Array | jax.ShapeDtypeStruct) -> PartitionSpec:
        dimension = split_dimension(getattr(path[-1], "key", ""), leaf.shape, mesh.shape[FSDP])
        if dimension is None:
            return PartitionSpec()
        axes = [None] * leaf.ndim
        axes[dimension] = FSDP
        return PartitionSpec(*axes)

    return jax.tree_util.tree_map_with_path(spec, tree)


def shardings(tree: PyTree, mesh: Mesh) -> PyTree[NamedSharding]:
    """Returns `specs` as shardings, which jit and checkpoints take."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(tree, mesh))


@partial(jax.tree_util.register_dataclass, data_fields=["part"], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Shard:
    """A device's part of a parameter that is split over the "fsdp" axis; it replaces the parameter in a model.

    Attributes:
      part: this device's part; in a stack of blocks, of all layers, or of a single layer inside of a scan.
      spec: the partition spec of the whole parameter, with all layers of a stack.
    """

    part: Float[Array, "*part"]
    spec: PartitionSpec

    def gather(self) -> Float[Array, "*whole"]:
        """Returns the whole parameter; its gradient is summed over the devices and split again.

        Call it inside of shard_map.
        """
        missing = len(self.spec) - self.part.ndim  # leading dimensions that a scan has removed
        return jax.lax.all_gather(self.part, FSDP, axis=self.spec.index(FSDP) - missing, tiled=True)


def to_shards(params: PyTree, specs: PyTree[PartitionSpec]) -> PyTree:
    """Wraps those of a device's parameters that are split as `Shard`."""
    return jax.tree.map(lambda x, spec: Shard(x, spec) if FSDP in spec else x, params, specs)


def gather(tree: T, keep: tuple[type, ...] = ()) -> T:
    """Gathers every `Shard` of a tree, except inside modules of the types `keep`."""

    def stop(x: object) -> bool:
        return isinstance(x, (Shard, *keep))

    return jax.tree.map(lambda x: x.gather() if isinstance(x, Shard) else x, tree, is_leaf=stop)

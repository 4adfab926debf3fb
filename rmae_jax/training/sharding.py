"""Which parameters are split over the mesh's "fsdp" axis, and how a device gets one whole.

The optimiser keeps its moments under the same names, so that what is decided for a parameter holds for them too.
"""

import dataclasses
from functools import partial
from typing import TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from rmae_jax.training.mesh import FSDP

T = TypeVar("T")

# Last name of a parameter's path: the dimension that is split. It is counted from the end, since stacked blocks have
# a dimension of layers in front; rows of a matrix, so that its parts lie one behind the other when it is gathered.
# What is not named (biases, LayerNorms, tokens: less than 0.2 % of a ViT-B) stays whole, as does what does not divide.
RULES = {"kernel": -2}


def split_dimension(name: str, shape: tuple[int, ...], parts: int) -> int | None:
    """The dimension, counted from the end, along which a parameter is cut into `parts`; None if it stays whole."""
    dimension = RULES.get(name)
    if parts == 1 or dimension is None or shape[dimension] % parts:
        return None
    return dimension


def specs(tree: PyTree, mesh: Mesh) -> PyTree[PartitionSpec]:
    """How the leaves of a tree lie on a mesh: nested dicts of parameters, or anything that holds such.

    Args:
      tree: of arrays or of their shapes (jax.ShapeDtypeStruct).
      mesh: with an axis "fsdp".
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
    """`specs` as what jit and checkpoints take."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(tree, mesh))


@partial(jax.tree_util.register_dataclass, data_fields=["part"], meta_fields=["spec"])
@dataclasses.dataclass(frozen=True)
class Shard:
    """A device's part of a parameter that is split over the "fsdp" axis, in place of the parameter in a model.

    Attributes:
      part: this device's part; of a stack of blocks, all layers, or the one that a scan hands out.
      spec: of the whole parameter, with all layers of a stack.
    """

    part: Float[Array, "*part"]
    spec: PartitionSpec

    def gather(self) -> Float[Array, "*whole"]:
        """Returns the whole parameter; its gradient is summed over the devices and split again.

        To be called inside of shard_map.
        """
        missing = len(self.spec) - self.part.ndim  # leading dimensions, which a scan has taken off
        return jax.lax.all_gather(self.part, FSDP, axis=self.spec.index(FSDP) - missing, tiled=True)


def to_shards(params: PyTree, specs: PyTree[PartitionSpec]) -> PyTree:
    """Marks the split ones of a device's parameters as `Shard`."""
    return jax.tree.map(lambda x, spec: Shard(x, spec) if FSDP in spec else x, params, specs)


def gather(tree: T, keep: tuple[type, ...] = ()) -> T:
    """Gathers every `Shard` of a tree, except inside of modules of the types `keep`."""

    def stop(x: object) -> bool:
        return isinstance(x, (Shard, *keep))

    return jax.tree.map(lambda x: x.gather() if isinstance(x, Shard) else x, tree, is_leaf=stop)

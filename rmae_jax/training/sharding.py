"""Which parameters are split over the mesh's "fsdp" axis, and how a device gets one whole.

The optimiser keeps its moments under the same names, so that what is decided for a parameter holds for them too.
"""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from rmae_jax.training.mesh import FSDP

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


def gather(part: Float[Array, "*part"], spec: PartitionSpec) -> Float[Array, "*whole"]:
    """A device's part of a parameter -> the whole; in the backward pass, the gradient's sum -> this device's part.

    To be called inside of shard_map. The layer of a stacked block that a scan hands out has one dimension less than
    `spec`, in front.
    """
    if FSDP not in spec:
        return part
    return jax.lax.all_gather(part, FSDP, axis=part.ndim - len(spec) + spec.index(FSDP), tiled=True)

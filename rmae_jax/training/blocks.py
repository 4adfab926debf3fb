"""How a step runs the blocks of a model: what is kept for the backward pass, and when split weights are gathered.

The model knows of neither. Its blocks are modules, and modules are plain trees: a block is replaced by one that holds
it and calls it in another way, inside of the scan over a stack as well.
"""

from collections.abc import Callable, Iterator

import jax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from rmae_jax.model import RMAE
from rmae_jax.model.blocks import Block
from rmae_jax.model.layers import ATTENTION, LINEAR
from rmae_jax.model.region_queries import ExpansionBlock, QueryBlock
from rmae_jax.training.sharding import gather

BLOCKS = (Block, QueryBlock, ExpansionBlock)
# What of a block is kept for the backward pass, beside its input, by config.remat.
KEPT = {"none": (LINEAR, ATTENTION), "attention": (LINEAR,), "full": ()}
Run = Callable[[nnx.Module, str, tuple], Array]  # of a module, a method's name and its arguments
Path = tuple[str, ...]


class Rewired(nnx.Module):
    """A module that is called in another way."""

    def __init__(self, module: nnx.Module, run: Run):
        self.module = module
        self.run = run

    def __call__(self, *args: Array | int) -> Array:
        return self.run(self.module, "__call__", args)

    def mean(self, x: Array) -> Array:
        """See `Block.mean`."""
        return self.run(self.module, "mean", (x,))


def build(graphdef: nnx.GraphDef, params: PyTree, specs: PyTree[PartitionSpec], remat: str) -> RMAE:
    """A model from its parameters, or from a device's parts of them.

    What lies outside of blocks is gathered at once; a block gathers its own weights when it runs, and once more in the
    backward pass, so that a device holds the whole weights of a single block at a time.

    Args:
      graphdef: of the model.
      params: nested dicts by module name.
      specs: how each of them is split.
      remat: what blocks compute again in the backward pass instead of keeping it: "none"; "attention": scores, softmax
        and their product with the values; "full": everything but a block's input.
    """
    split = any(map(len, jax.tree.leaves(specs)))
    inside = [path for path, *_ in _find(nnx.merge(graphdef, params), BLOCKS)]

    def outside_gathered(path: tuple, part: Array, spec: PartitionSpec) -> Array:
        names = tuple(key.key for key in path)
        return part if any(names[: len(block)] == block for block in inside) else gather(part, spec)

    model = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(outside_gathered, params, specs))
    policy = jax.checkpoint_policies.save_only_these_names(*KEPT[remat])
    for path, parent, block in list(_find(model, BLOCKS)):
        run = _plain
        if split:
            of_block = specs
            for name in path:
                of_block = of_block[name]
            run = _gathering(of_block)
        setattr(parent, path[-1], Rewired(block, _again(run, policy)))
    return model


def _find(
    module: nnx.Module, kinds: tuple[type, ...], path: Path = ()
) -> Iterator[tuple[Path, nnx.Module, nnx.Module]]:
    """The outermost modules of some kinds inside of a module: (path, parent, module)."""
    for name, child in vars(module).items():
        if isinstance(child, kinds):
            yield (*path, name), module, child
        elif isinstance(child, nnx.Module):
            yield from _find(child, kinds, (*path, name))


def _plain(module: nnx.Module, method: str, args: tuple) -> Array:
    return getattr(module, method)(*args)


def _again(run: Run, policy: Callable[..., bool]) -> Run:
    """`run`, of which the backward pass computes again what `policy` does not keep."""

    def kept(module: nnx.Module, method: str, args: tuple) -> Array:
        numbers = tuple(i for i, arg in enumerate(args, start=1) if isinstance(arg, int))

        def call(module: nnx.Module, *args: Array | int) -> Array:
            return run(module, method, args)

        return jax.checkpoint(call, policy=policy, static_argnums=numbers)(module, *args)

    return kept


def _gathering(specs: PyTree[PartitionSpec]) -> Run:
    def gathered(module: nnx.Module, method: str, args: tuple) -> Array:
        graphdef, state = nnx.split(module)
        return _plain(nnx.merge(graphdef, jax.tree.map(gather, nnx.to_pure_dict(state), specs)), method, args)

    return gathered

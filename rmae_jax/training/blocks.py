"""How a step runs the blocks of a model: what is kept for the backward pass, and when split weights are gathered.

The model knows of neither. Its blocks are modules, and modules are plain trees: a block is replaced by one that holds
it and calls it in another way, inside of the scan over a stack as well.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from rmae_jax.model import RMAE
from rmae_jax.model.blocks import Attention, Block, CrossAttention
from rmae_jax.model.layers import add_bias
from rmae_jax.model.region_queries import ExpansionBlock, QueryBlock
from rmae_jax.model.short_attention import fits, packed_attention
from rmae_jax.training.config import REMAT
from rmae_jax.training.sharding import gather

BLOCKS = (Block, QueryBlock, ExpansionBlock)
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


def build(
    graphdef: nnx.GraphDef, params: PyTree, specs: PyTree[PartitionSpec], remat: str, kernel: str | None = None
) -> RMAE:
    """A model from its parameters, or from a device's parts of them.

    What lies outside of blocks is gathered at once; a block gathers its own weights when it runs, and once more in the
    backward pass, so that a device holds the whole weights of a single block at a time.

    Args:
      graphdef: of the model.
      params: nested dicts by module name.
      specs: how each of them is split.
      remat: what blocks compute again in the backward pass instead of keeping it: "none"; "attention": scores, softmax
        and their product with the values; "full": everything but a block's input.
      kernel: "compiled": attention is a TPU kernel, which keeps none of what remat "attention" computes again;
        "interpreted": the same without a TPU, slowly.
    """
    assert remat in REMAT
    split = any(map(len, jax.tree.leaves(specs)))
    if not split and remat == "none" and kernel is None:
        return nnx.merge(graphdef, params)
    inside = [path for path, *_ in _find(nnx.merge(graphdef, params), BLOCKS)]

    def outside_gathered(path: tuple, part: Array, spec: PartitionSpec) -> Array:
        names = tuple(key.key for key in path)
        return part if any(names[: len(block)] == block for block in inside) else gather(part, spec)

    model = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(outside_gathered, params, specs))
    for path, parent, block in list(_find(model, BLOCKS)):
        run = _attention_again if remat == "attention" else _plain
        if kernel is not None:
            run = partial(_with_attention, partial(_in_kernel, kernel == "interpreted"))
        if split:
            of_block = specs
            for name in path:
                of_block = of_block[name]
            run = _gathering(of_block, run)
        if remat == "full":
            run = _again(run, policy=None)
        elif split:
            run = _again(run, policy=_all_but_weights)
        elif kernel is not None:  # a scan would stack the weights' casts
            run = _again(run, policy=_all_but_weights, prevent_cse=False)
        setattr(parent, path[-1], Rewired(block, run))
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


def _again(run: Run, policy: Callable[..., bool] | None, prevent_cse: bool = True) -> Run:
    """`run`, of which the backward pass computes again what `policy` does not keep; without one, everything.

    Without `prevent_cse`, the compiler may keep what it is told to compute again, outside of scans; with it, there is a
    barrier, behind which TPU programs first copy all that was kept out of the scan's stacks.
    """

    def kept(module: nnx.Module, method: str, args: tuple) -> Array:
        numbers = tuple(i for i, arg in enumerate(args, start=1) if isinstance(arg, int))

        def call(module: nnx.Module, *args: Array | int) -> Array:
            return run(module, method, args)

        return jax.checkpoint(call, policy=policy, static_argnums=numbers, prevent_cse=prevent_cse)(module, *args)

    return kept


def _all_but_weights(primitive: jax.extend.core.Primitive, *inputs: jax.core.ShapedArray, **params: object) -> bool:
    """Keeps activations, (B, N, D), and not gathered weights or their casts and slices, which are matrices."""
    return any(x.ndim > 2 for x in inputs)


def _gathering(specs: PyTree[PartitionSpec], run: Run) -> Run:
    def gathered(module: nnx.Module, method: str, args: tuple) -> Array:
        graphdef, state = nnx.split(module)
        return run(nnx.merge(graphdef, jax.tree.map(gather, nnx.to_pure_dict(state), specs)), method, args)

    return gathered


def _with_attention(run: Run, module: nnx.Module, method: str, args: tuple) -> Array:
    """Runs a block whose attention `run` calls."""
    module = jax.tree.map(lambda leaf: leaf, module)  # a copy: the model's own may be called again
    for path, parent, attention in list(_find(module, (Attention, CrossAttention))):
        setattr(parent, path[-1], Rewired(attention, run))
    return _plain(module, method, args)


# What attention's linear layers make is kept, and nothing of one token for another.
_attention_again = partial(_with_attention, _again(_plain, jax.checkpoint_policies.dots_with_no_batch_dims_saveable))


def _in_kernel(interpret: bool, module: Attention | CrossAttention, method: str, args: tuple) -> Array:
    """Calls an attention module, with the kernel where that is made for its sizes.

    q, k and v stay side by side as a linear layer makes them.
    """
    x, *rest = args
    keys, width = x.shape[1:]
    first = 0
    if isinstance(module, CrossAttention):
        keys = rest[0].shape[1]
    elif rest:
        (first,) = rest
    if not fits(x.shape[1] - first, keys, width, module.num_heads):
        return _plain(module, method, args)
    if isinstance(module, CrossAttention):
        parts = _linear(module.q, x), _linear(module.kv, *rest)
    elif first == 0:
        parts = (_linear(module.qkv, x),)
    else:
        parts = _linear(module.qkv, x[:, first:], slice(width)), _linear(module.qkv, x, slice(width, None))
    return module.proj(packed_attention(parts, module.num_heads, interpret=interpret))


def _linear(linear: nnx.Linear, x: Array, columns: slice = slice(None)) -> Array:
    """Chosen columns of a linear layer's output. What a kernel returns cannot be summed on the way: see `add_bias`."""
    kernel, bias = linear.kernel[:, columns].astype(linear.dtype), linear.bias[columns].astype(linear.dtype)
    return add_bias(x.astype(linear.dtype) @ kernel, bias)

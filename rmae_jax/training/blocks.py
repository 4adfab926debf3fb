"""How a step runs the blocks of a model: what is kept for the backward pass, when split weights are gathered, and
whether those of a stack are a loop.

Blocks are modules, and modules are plain trees: one is replaced by another that holds it and calls it in another way,
inside of the loop over a stack as well. The model knows nothing of the reasons.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from rmae_jax.model import RMAE
from rmae_jax.model.attention import Attention, CrossAttention
from rmae_jax.model.blocks import Block, Unrolled
from rmae_jax.model.layers import ATTENTION, LINEAR, PROJECTION, Projection, add_bias
from rmae_jax.model.region_queries import ExpansionBlock, QueryBlock
from rmae_jax.training.sharding import gather

BLOCKS = (Block, QueryBlock, ExpansionBlock)
# What of a block is kept for the backward pass, beside its input, by config.remat.
KEPT = {"none": (LINEAR, PROJECTION, ATTENTION), "attention": (LINEAR, PROJECTION), "full": ()}
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
    graphdef: nnx.GraphDef,
    params: PyTree,
    specs: PyTree[PartitionSpec],
    remat: str,
    kernel: str | None = None,
    unrolled: bool = False,
) -> RMAE:
    """A model from its parameters, or from a device's parts of them.

    What lies outside of blocks is gathered at once; a block gathers its own weights when it runs, and once more in the
    backward pass, so that a device holds the whole weights of a single block at a time.

    Args:
      graphdef: of the model.
      params: nested dicts by module name.
      specs: how each of them is split.
      remat: what blocks compute again in the backward pass instead of keeping it: "none": LayerNorm and GELU alone, or
        less, if the compiler sees both passes of a block at once; "attention": scores, softmax and their product with
        the values too; "full": everything but a block's input.
      kernel: "compiled": attention is a TPU kernel, which never keeps scores; "interpreted": the same without a TPU,
        slowly; None: attention is the model's own. Beside a kernel, a loop computes projections again in any case.
      unrolled: whether the blocks of a stack stand one behind the other in the program, and not in a loop. The compiler
        may keep what it likes of them: only where `remat` is "none" and nothing is split.
    """
    split = any(map(len, jax.tree.leaves(specs)))
    kept = KEPT[remat]
    if kernel is not None and not unrolled:
        # A loop writes what is kept to a stack and reads it back, which takes a TPU longer than these products.
        kept = tuple(name for name in kept if name != PROJECTION)
    inside = [path for path, *_ in _find(nnx.merge(graphdef, params), BLOCKS)]

    def outside_gathered(path: tuple, part: Array, spec: PartitionSpec) -> Array:
        names = tuple(key.key for key in path)
        return part if any(names[: len(block)] == block for block in inside) else gather(part, spec)

    model = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(outside_gathered, params, specs))
    for path, parent, block in list(_find(model, BLOCKS)):
        run = _plain if kernel is None else partial(_in_kernel, kernel == "interpreted")
        if split:
            of_block = specs
            for name in path:
                of_block = of_block[name]
            run = _gathering(of_block, run)
        stacked = block.norm1.scale.ndim > 1
        # Between the two passes of a loop, no compiler finds that something is computed twice. Elsewhere it has to be
        # prevented where memory is short, by a barrier, to which TPU programs copy all that was kept.
        barrier = not stacked and (split or remat != "none")
        rewired = Rewired(block, _again(run, kept, barrier))
        setattr(parent, path[-1], Unrolled(rewired) if stacked and unrolled else rewired)
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


def _again(run: Run, kept: tuple[str, ...], barrier: bool) -> Run:
    """`run`, of which the backward pass computes again what is not kept."""
    policy = jax.checkpoint_policies.save_only_these_names(*kept)

    def run_again(module: nnx.Module, method: str, args: tuple) -> Array:
        numbers = tuple(i for i, arg in enumerate(args, start=1) if isinstance(arg, int))

        def call(module: nnx.Module, *args: Array | int) -> Array:
            return run(module, method, args)

        again = jax.checkpoint(call, policy=policy, static_argnums=numbers, prevent_cse=barrier)
        return again(module, *args)

    return run_again


def _gathering(specs: PyTree[PartitionSpec], run: Run) -> Run:
    def gathered(module: nnx.Module, method: str, args: tuple) -> Array:
        graphdef, state = nnx.split(module)
        return run(nnx.merge(graphdef, jax.tree.map(gather, nnx.to_pure_dict(state), specs)), method, args)

    return gathered


def _in_kernel(interpret: bool, module: nnx.Module, method: str, args: tuple) -> Array:
    """Runs a block whose attention is the kernel."""
    module = jax.tree.map(lambda leaf: leaf, module)  # a copy: the model's own may be called again
    for path, parent, attention in list(_find(module, (Attention, CrossAttention))):
        setattr(parent, path[-1], Rewired(attention, partial(_attention_in_kernel, interpret)))
    return _plain(module, method, args)


def _attention_in_kernel(interpret: bool, module: Attention | CrossAttention, method: str, args: tuple) -> Array:
    """Calls an attention module, with the kernel where that is made for its sizes.

    q, k and v stay side by side as a linear layer makes them.
    """
    from rmae_jax.model.short_attention import fits, short_attention  # Pallas takes a while to import

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
    attended = short_attention(parts, module.num_heads, interpret=interpret)
    return module.proj(_named(attended))


@jax.custom_vjp
def _named(attended: Array) -> Array:
    """What a kernel returns, by the name `ATTENTION`; as whole numbers.

    JAX rounds floats that are kept to their own type, which XLA would do in one more pass behind a kernel.
    """
    return _named_forward(attended)[0]


def _named_forward(attended: Array) -> tuple[Array, None]:
    bits = jax.lax.bitcast_convert_type(attended, f"uint{8 * attended.dtype.itemsize}")
    return jax.lax.bitcast_convert_type(checkpoint_name(bits, ATTENTION), attended.dtype), None


_named.defvjp(_named_forward, lambda _, d: (d,))


def _linear(linear: Projection, x: Array, columns: slice = slice(None)) -> Array:
    """Chosen columns of a projection's output. What a kernel returns cannot be summed on the way: see `add_bias`."""
    kernel, bias = linear.kernel[:, columns].astype(linear.dtype), linear.bias[columns].astype(linear.dtype)
    return checkpoint_name(add_bias(x.astype(linear.dtype) @ kernel, bias), linear.kept_as)

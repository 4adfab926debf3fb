"""How a model runs its blocks: the attention implementation, rematerialisation, gathering of weights, unrolling.

The model carries an `Execution` from its construction. Blocks apply it to themselves: their methods are marked with
`block_method`, attention modules read `Execution.attention`, and `run_stack` reads `Execution.unrolled`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array

from rmae_jax.model.ops.activation_names import ATTENTION, LINEAR, PROJECTION

# Activations that a block saves for the backward pass, besides its input, by config.remat; each way saves less.
SAVED_BY_REMAT = {"none": (LINEAR, PROJECTION, ATTENTION), "attention": (LINEAR, PROJECTION), "full": ()}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a model runs its blocks. It decides speed and memory, never what the blocks compute.

    Attributes:
      attention: "plain"; "tpu_kernel", a Pallas kernel that never stores scores; or "tpu_kernel_interpreted", the same
        without a TPU, slowly. Sizes that the kernel does not support fall back to "plain".
      saved: names of the activations that a block saves for the backward pass; the block recomputes all others. None
        leaves the choice to automatic differentiation.
      barrier: whether blocks outside of loops keep the compiler from merging the forward pass with the recomputation.
      unrolled: whether a stack of blocks is unrolled in the program instead of a loop. The compiler then decides what
        is saved, so it suits only programs that are not short of memory.
      gather: replaces the shards of weights in a block by whole weights; called when the block runs, and again when
        the backward pass recomputes it, so that a device holds the whole weights of one block at a time.
    """

    attention: str = "plain"
    saved: tuple[str, ...] | None = None
    barrier: bool = False
    unrolled: bool = False
    gather: Callable[[nnx.Module], nnx.Module] | None = None

    def in_loop(self) -> "Execution":
        """Returns the execution of blocks in a stack.

        The compiler cannot merge the forward pass and the recomputation across the two passes of a loop, so no barrier
        is needed; TPU programs would copy everything that is saved to it.
        """
        return dataclasses.replace(self, barrier=False)

    def run(self, method: Callable[..., Array], block: nnx.Module, *arrays: Array, **sizes: int) -> Array:
        """Calls `method` of `block`.

        Args:
          method: a function of the block, `arrays` and `sizes`.
          block: the block; its weights may be shards.
          *arrays: arguments with derivatives.
          **sizes: arguments that are constants of the program.
        """

        def call(block: nnx.Module, *arrays: Array) -> Array:
            return method(block if self.gather is None else self.gather(block), *arrays, **sizes)

        if self.saved is None:
            return call(block, *arrays)
        policy = jax.checkpoint_policies.save_only_these_names(*self.saved)
        return jax.checkpoint(call, policy=policy, prevent_cse=self.barrier)(block, *arrays)


PLAIN = Execution()


def block_method(method: Callable[..., Array]) -> Callable[..., Array]:
    """Decorates a method of a block: it runs as the block's `execution` says. Sizes are passed by keyword."""

    @functools.wraps(method)
    def run(block: nnx.Module, *arrays: Array, **sizes: int) -> Array:
        return block.execution.run(method, block, *arrays, **sizes)

    return run

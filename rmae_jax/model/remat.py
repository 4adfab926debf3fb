"""How a model runs its blocks: what they save and recompute (rematerialisation), gathering of weights, unrolling.

The model carries an `Execution` from its construction. Blocks apply it to themselves: their methods are marked with
`block_method`, attention modules read `Execution.attention`, and `run_stack` reads `Execution.unrolled`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array

from rmae_jax.model.attention import choose_implementation
from rmae_jax.model.ops.activation_names import ATTENTION, LINEAR, PROJECTION

# Activations that a block saves for the backward pass besides its input, by config.remat; each choice saves fewer.
SAVED_BY_REMAT = {"none": (LINEAR, PROJECTION, ATTENTION), "attention": (LINEAR, PROJECTION), "full": ()}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a model runs its blocks. It affects speed and memory, not the result.

    Attributes:
      attention: "plain"; "tpu_kernel", a Pallas kernel that never stores scores; or "tpu_kernel_interpreted", the same
        kernel run slowly by an interpreter, for devices other than TPUs. Sizes that the kernel does not support fall
        back to "plain".
      saved: names of the activations that a block saves for the backward pass; the block recomputes all others. None
        leaves the choice to automatic differentiation.
      barrier: whether blocks outside of loops keep the compiler from merging the recomputation with the forward pass.
      unrolled: whether a stack of blocks is unrolled in the program instead of run as a loop. The compiler then decides
        what is saved, so this suits only programs that are not short of memory.
      gather: a function that replaces the sharded weights of a block by the whole weights. It is called when the block
        runs, and again when the backward pass recomputes it, so that a device holds the whole weights of one block at
        a time.
    """

    attention: str = "plain"
    saved: tuple[str, ...] | None = None
    barrier: bool = False
    unrolled: bool = False
    gather: Callable[[nnx.Module], nnx.Module] | None = None

    @classmethod
    def choose(
        cls,
        platform: str,
        *,
        attention: str,
        blocks: str,
        remat: str,
        gather: Callable[[nnx.Module], nnx.Module] | None = None,
    ) -> "Execution":
        """Chooses the execution of a training step from the keys of a recipe.

        Args:
          platform: the platform of the devices that run the step, "tpu", "gpu" or "cpu".
          attention: config.attention: "auto" (the kernel on TPUs, plain elsewhere), "plain" or "kernel".
          blocks: config.blocks: "auto", "scanned" or "unrolled". "auto" unrolls blocks on TPUs, unless `remat` or
            sharded weights show that memory is short.
          remat: config.remat, a key of `SAVED_BY_REMAT`.
          gather: a function that gathers sharded weights; None if they are not sharded.
        """
        implementation = choose_implementation(attention, platform)
        short_of_memory = remat != "none" or gather is not None
        unrolled = blocks == "unrolled" or (blocks == "auto" and platform == "tpu" and not short_of_memory)
        saved = SAVED_BY_REMAT[remat]
        if implementation != "plain" and not unrolled:
            # A loop writes saved activations to a stack and reads them back, slower on a TPU than recomputing these.
            saved = tuple(name for name in saved if name != PROJECTION)
        return cls(implementation, saved, barrier=short_of_memory, unrolled=unrolled, gather=gather)

    def in_loop(self) -> "Execution":
        """Returns the execution of blocks in a stack.

        No barrier is needed, since the compiler cannot merge the recomputation with the forward pass if they are in
        different loops. On a TPU, a barrier would copy all saved activations.
        """
        return dataclasses.replace(self, barrier=False)

    def run(self, method: Callable[..., Array], block: nnx.Module, *arrays: Array, **sizes: int) -> Array:
        """Calls `method` of `block`, with gathering and rematerialisation.

        Args:
          method: a function of the block, `arrays` and `sizes`.
          block: the block; its weights may be sharded.
          *arrays: arguments that gradients flow to.
          **sizes: arguments that are constants of the compiled program.
        """

        def call(block: nnx.Module, *arrays: Array) -> Array:
            return method(block if self.gather is None else self.gather(block), *arrays, **sizes)

        if self.saved is None:
            return call(block, *arrays)
        policy = jax.checkpoint_policies.save_only_these_names(*self.saved)
        return jax.checkpoint(call, policy=policy, prevent_cse=self.barrier)(block, *arrays)


PLAIN = Execution()


def block_method(method: Callable[..., Array]) -> Callable[..., Array]:
    """Decorates a method of a block, so that the block's `execution` runs it. Sizes are passed by keyword."""

    @functools.wraps(method)
    def run(block: nnx.Module, *arrays: Array, **sizes: int) -> Array:
        return block.execution.run(method, block, *arrays, **sizes)

    return run

"""Compilation of a recipe's training step for a topology. It runs in a process of its own:

    python -m rmae_jax.readiness.compiled_step REQUEST.json RESULT.json

with topologies.ENVIRONMENT set. REQUEST has "config" and "topology"; RESULT gets the result of `measure`, or "error".
"""

import dataclasses
import json
import math
import re
import sys
import time
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections

from rmae_jax.data.region_sampling import bitmask_dtype
from rmae_jax.readiness import hlo, program_cost, topologies
from rmae_jax.readiness.flops import product_flops
from rmae_jax.training import recipe
from rmae_jax.training.mesh import split_batch, training_mesh
from rmae_jax.training.optimizer import adamw
from rmae_jax.training.step import abstract_state, train_step

# Without a GPU, XLA cannot time its own kernels to choose the fastest for a product, and its guesses may not compile.
# On a GPU, large products use cuBLAS as well.
_OPTIONS = {"tpu": {}, "cuda": {"xla_gpu_enable_triton_gemm": False}}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def measure(config: ml_collections.ConfigDict, topology: topologies.Topology) -> dict:
    """Compiles a recipe's step for a topology and reads the program.

    Returns:
      A dict of one chip's part of one step: bytes of its "params", "optimizer" state and "batch"; "flops" of its
      matrix products, and "model_flops", without recomputation; "num_params" of the model and "versions". If the
      program fits, also "memory" (the compiler's plan, with "peak"), "traffic" in bytes, "cycles" (None for GPUs) and
      calls of "kernels", which the cycles do not include, "collectives" by kind and "compile_seconds"; otherwise,
      "needed" and "available" bytes.

    Raises:
      ConfigError: the recipe does not fit the topology.
      TopologyError: the compiler does not support the topology.
      HloError: the compiled program cannot be read.
    """
    config = for_accelerator(config)
    devices = topologies.devices(topology)
    mesh = training_mesh(config, devices)
    optimizer = adamw(config, recipe.Durations(1000, 10))  # any lengths: they are constants of the program
    state, batch = abstract_state(config, optimizer, mesh), abstract_batch(config, mesh)

    _say(topology, "tracing the step")
    traced = train_step(config, optimizer, mesh).trace(state, batch)

    def products(**changes: str | int) -> int:
        outside_of_kernels = {"attention": "plain"}
        counted = ml_collections.ConfigDict(config.to_dict() | outside_of_kernels | changes)
        return product_flops(train_step(counted, optimizer, mesh).trace(state, batch).jaxpr.jaxpr)

    flops = model_flops = products()
    if config.remat != "none":
        model_flops = products(remat="none", accumulation_steps=1)
    found = {
        "params": _local_bytes(state.params),
        "optimizer": _local_bytes(state.opt_state),
        "batch": _local_bytes(batch),
        "flops": flops,
        "model_flops": model_flops,
        "num_params": sum(x.size for x in jax.tree.leaves(state.params)),
        "versions": versions(topology),
    }

    _say(topology, f"compiling the step for {topology.num_chips} chips; a ViT-B takes minutes")
    start = time.monotonic()
    try:
        compiled = traced.lower().compile(compiler_options=_OPTIONS[topology.chip.platform])
    except jax.errors.JaxRuntimeError as error:
        sizes = memory_error(str(error))
        if sizes is None:
            raise
        _say(topology, f"does not fit: {sizes[0] / 2**30:.1f} GiB needed, {sizes[1] / 2**30:.1f} GiB available")
        return found | {"needed": sizes[0], "available": sizes[1]}
    seconds = time.monotonic() - start
    _say(topology, f"compiled in {seconds:.0f} s")
    program = read(compiled)
    if program["memory"]["peak"] > topology.chip.memory:  # the compiler for GPUs may plan more than the chip has
        return found | {"needed": program["memory"]["peak"], "available": topology.chip.memory}
    return found | {"compile_seconds": seconds} | program


def read(compiled: jax.stages.Compiled) -> dict:
    """Returns memory, traffic, cycles, kernels and collectives of a compiled program."""
    program = hlo.parse(compiled.as_text())
    planned = compiled.memory_analysis()
    # The plan's size of temporaries is a sum of regions that may share memory; its peak is what the compiler compares
    # with the chip's memory.
    outputs = planned.output_size_in_bytes - planned.alias_size_in_bytes
    memory = {
        "arguments": planned.argument_size_in_bytes,
        "temporaries": planned.peak_memory_in_bytes - planned.argument_size_in_bytes - outputs,
        "program": planned.generated_code_size_in_bytes,
        "peak": planned.peak_memory_in_bytes + planned.generated_code_size_in_bytes,
    }
    found = program_cost.collectives(program)
    return {
        "memory": memory,
        "traffic": program_cost.memory_traffic(program),
        "cycles": program_cost.estimated_cycles(program),
        "kernels": program_cost.kernels(program),
        "collectives": {kind: dataclasses.asdict(each) for kind, each in found.items()},
    }


def for_accelerator(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the recipe as it runs on an accelerator: dtype "auto" would depend on the CPU that compiles."""
    config = ml_collections.ConfigDict(config.to_dict())
    if config.model.dtype == "auto":
        config.model.dtype = "bfloat16"
    return config


def abstract_batch(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, dtypes and shardings of a global batch, as `rmae_jax.data.batches` yields it."""
    size, model = config.batch_size, config.model
    shapes = {"images": ((size, model.image_size, model.image_size, 3), jnp.uint8)}
    if model.objective != "mae":
        shapes["regions"] = ((size, model.image_size, model.image_size), bitmask_dtype(model.num_regions))
        if config.data.region_sampling == "foreground":
            shapes["permutation"] = ((size, (model.image_size // model.patch_size) ** 2), jnp.int32)
    return {k: jax.ShapeDtypeStruct(*shape, sharding=split_batch(mesh)) for k, shape in shapes.items()}


def memory_error(message: str) -> tuple[int, int] | None:
    """Returns (needed, available) bytes from a compiler's out-of-memory message; None for any other message."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    size = r"([\d.]+)([KMGT]?)i?B?"
    for complaint in (rf"\({size}\) exceeds available HBM \({size}\)", rf"Used {size} of {size} hbm"):
        if found := re.search(complaint, message):
            needed, unit, available, of = found.groups()
            return int(float(needed) * _UNITS[unit]), int(float(available) * _UNITS[of])
    return None


def versions(topology: topologies.Topology) -> dict[str, str]:
    """Returns the versions of JAX and of the topology's compiler."""
    names = ["jax", "libtpu" if topology.chip.platform == "tpu" else "jax-cuda13-plugin"]
    return {name: metadata.version(name) for name in names}


def _local_bytes(tree: object) -> int:
    """Returns the bytes on one device of a tree of shapes with shardings, without padding."""
    leaves = jax.tree.leaves(tree)
    return sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in leaves)


def _say(topology: topologies.Topology, what: str) -> None:
    print(f"{topology.name}: {what}", flush=True)


def main(request: Path, result: Path) -> None:
    """Reads a request and writes its result."""
    requested = json.loads(request.read_text())
    try:
        found = measure(ml_collections.ConfigDict(requested["config"]), topologies.parse(requested["topology"]))
    except (recipe.ConfigError, topologies.TopologyError, hlo.HloError) as error:
        found = {"error": str(error)}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""What to change, where a step does not fit the chip or its hosts cannot feed it."""

import ml_collections

from rmae_jax.readiness.topologies import Topology
from rmae_jax.training.recipe import REMAT

ROOM = 0.95  # of the memory, for what an estimate may be wrong by


def ladder(config: ml_collections.ConfigDict, num_chips: int) -> list[dict]:
    """Changes of a recipe that each need less memory than those before, and leave what is learned as it is.

    First 2, 4, ... parts of a batch, which cost the least; then the smallest parts and more rematerialisation, which
    has its blocks in a loop.
    """
    parts, steps = config.accumulation_steps, []
    while config.batch_size % (2 * num_chips * parts) == 0:
        parts *= 2
        steps.append({"accumulation_steps": parts})
    again = {"accumulation_steps": parts, "blocks": "scanned"}
    return steps + [again | {"remat": way} for way in REMAT[REMAT.index(config.remat) + 1 :]]


def advise(numbers: dict, config: ml_collections.ConfigDict, topology: Topology) -> list[str]:
    """Lines about a row of `report.numbers`.

    Estimates take what is neither state nor batch to be proportional to the images that a chip looks at at a time.
    """
    if not numbers["fits"]:
        return _memory(numbers, config, topology)
    cores = topology.chip.host_cpus / 2
    if numbers["input_cores"] > cores:
        return [
            f"input: {numbers['input_cores']:.0f} cores per host are needed and {cores:.0f} are there; "
            "the step will wait for data: take images of fewer pixels, or slices with more hosts"
        ]
    return []


def _memory(numbers: dict, config: ml_collections.ConfigDict, topology: Topology) -> list[str]:
    chips, available = topology.num_chips, numbers["available"] * ROOM
    state = numbers["params"] + numbers["optimizer"]
    rest = numbers["needed"] - state
    lines = []
    changes = ladder(config, chips)
    for step in changes:
        needed = state + rest * config.accumulation_steps / step["accumulation_steps"]
        if needed <= available:
            lines.append(f"--config.accumulation_steps={step['accumulation_steps']}: about {_gib(needed)}")
            break
    if ways := [f"--config.remat={step['remat']}" for step in changes if "remat" in step]:
        lines.append(f"{' or '.join(ways)}, at a greater cost (--fit compiles all of these in turn)")
    data, fsdp = numbers["mesh"]
    if state > available / 4 and data > 1:
        whole = state / (fsdp * data)
        lines.append(
            f"--config.mesh.data=1 --config.mesh.fsdp={fsdp * data}: parameters and optimiser take about "
            f"{_gib(whole)} instead of {_gib(state)}, the whole about {_gib(numbers['needed'] - state + whole)}"
        )
    per_image = rest / numbers["batch_per_chip"]
    if (images := int((available - state) / per_image)) > 0:
        lines.append(
            f"--config.batch_size={images * chips} ({images} images per chip), "
            f"or at least {-(-config.batch_size // images)} chips for {config.batch_size}: as it is otherwise"
        )
    return lines


def _gib(size: int | float) -> str:
    return f"{size / 2**30:.1f} GiB"

"""Advice for a step that does not fit the chip's memory, or whose hosts cannot feed it."""

import ml_collections

from rmae_jax.readiness.topologies import Topology
from rmae_jax.training.recipe import REMAT

ROOM = 0.95  # usable fraction of the memory; the remainder allows for errors of the estimate


def ladder(config: ml_collections.ConfigDict, num_chips: int) -> list[dict]:
    """Returns changes of a recipe, each of which needs less memory than the previous one; none affects what is learned.

    First 2, 4, ... accumulation steps, which cost the least; then the most accumulation steps together with more
    rematerialisation, which runs blocks in a loop.
    """
    parts, steps = config.accumulation_steps, []
    while config.batch_size % (2 * num_chips * parts) == 0:
        parts *= 2
        steps.append({"accumulation_steps": parts})
    again = {"accumulation_steps": parts, "blocks": "scanned"}
    return steps + [again | {"remat": way} for way in REMAT[REMAT.index(config.remat) + 1 :]]


def advise(numbers: dict, config: ml_collections.ConfigDict, topology: Topology) -> list[str]:
    """Returns lines of advice for a row of `report.numbers`.

    Estimates assume that all memory but the state's is proportional to the images that a chip processes at a time.
    """
    if not numbers["fits"]:
        return _memory(numbers, config, topology)
    cores = topology.chip.host_cpus / 2
    if numbers["input_cores"] > cores:
        return [
            f"input: {numbers['input_cores']:.0f} cores per host are needed and {cores:.0f} are available; "
            "the step will wait for data: use images of fewer pixels, or slices with more hosts"
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
            f"{_gib(whole)} instead of {_gib(state)}, the total about {_gib(numbers['needed'] - state + whole)}"
        )
    per_image = rest / numbers["batch_per_chip"]
    if (images := int((available - state) / per_image)) > 0:
        lines.append(
            f"--config.batch_size={images * chips} ({images} images per chip), "
            f"or at least {-(-config.batch_size // images)} chips for {config.batch_size}, without other changes"
        )
    return lines


def _gib(size: int | float) -> str:
    return f"{size / 2**30:.1f} GiB"

"""What to change, where a step does not fit the chip or its hosts cannot feed it."""

import ml_collections

from rmae_jax.readiness.topologies import Topology

ROOM = 0.95  # of the memory, for what an estimate may be wrong by


def ladder(config: ml_collections.ConfigDict, num_chips: int) -> list[dict]:
    """Changes of a recipe that each need less memory than those before, and leave what is learned as it is.

    More rematerialisation first, since it costs the least; then that and 2, 4, ... parts of a batch.
    """
    ways = ("none", "attention", "full")
    steps = [{"remat": way} for way in ways[ways.index(config.remat) + 1 :]]
    parts = 2 * config.accumulation_steps
    while config.batch_size % (num_chips * parts) == 0:
        steps.append({"remat": "full", "accumulation_steps": parts})
        parts *= 2
    return steps


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
    if changes := ladder(config, chips):
        if config.remat != "full":
            ways = " or ".join(f"--config.remat={step['remat']}" for step in changes if len(step) == 1)
            lines.append(f"{ways} (--fit compiles these in turn)")
        for step in changes:
            parts = step.get("accumulation_steps", 1)
            needed = state + rest * config.accumulation_steps / parts
            if parts > 1 and needed <= available:
                lines.append(f"--config.accumulation_steps={parts}: about {_gib(needed)} with this remat")
                break
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

"""Estimates for a run, derived from its compiled step: seconds, images per second, days, and the input it needs."""

import ml_collections

from rmae_jax.readiness.advice import advise
from rmae_jax.readiness.topologies import Topology
from rmae_jax.training.recipe import durations, mesh_shape

# Time of one core for an image of COCO's size, JPEG to batch: python -m benchmarks.input_pipeline, November 2026.
SECONDS_PER_IMAGE = 2.1e-3


def numbers(found: dict, config: ml_collections.ConfigDict, topology: Topology, num_examples: int) -> dict:
    """Returns the result of `compiled_step.measure` for a recipe on a topology, with the estimates that follow from it.

    Seconds of a step: "compute" is the compiler's cycles divided by the chip's clock; "links" is the time of the
    collectives if only links limit them, without overlap with computation; "step" is their sum, None without cycles
    (GPUs). "bound" is the roofline: the larger of products at the chip's peak and memory traffic at its bandwidth, plus
    links. Only a cache that passes the result of one operation to the next can beat it. Rates are computed from "step";
    without it, from "bound", and are then upper limits ("at_most").

    Args:
      found: the result of `compiled_step.measure`.
      config: the recipe.
      topology: the topology that the step was compiled for.
      num_examples: the number of images per epoch.

    Raises:
      ConfigError: the run has no steps, or its warm-up is not shorter than the run.
    """
    chip, chips = topology.chip, topology.num_chips
    length = durations(config, num_examples)
    result = {
        "topology": topology.name,
        "chips": chips,
        "hosts": topology.num_hosts,
        "mesh": list(mesh_shape(config, chips)),
        "batch_size": config.batch_size,
        "batch_per_chip": config.batch_size // chips,
        "accumulation_steps": config.accumulation_steps,
        "remat": config.remat,
        "num_examples": num_examples,
        "steps": length.steps,
        "hbm": chip.memory,
        "fits": "memory" in found,
        "model_flops_per_image": found["model_flops"] * chips / config.batch_size,
        **found,
    }
    if result["fits"]:
        links = sum(each["sent"] for each in found["collectives"].values()) / chip.link
        compute = None if found["cycles"] is None else found["cycles"] / chip.clock
        bound = max(found["flops"] / chip.peak, found["traffic"] / chip.bandwidth) + links
        step = None if compute is None else compute + links
        seconds = bound if step is None else step
        rate = config.batch_size / seconds
        per_host = rate / topology.num_hosts
        result |= {
            "seconds": {"compute": compute, "links": links, "step": step, "bound": bound},
            "at_most": step is None,
            "images_per_second": rate,
            "images_per_second_and_chip": rate / chips,
            "mfu": found["model_flops"] / seconds / chip.peak,
            "images_per_second_and_host": per_host,
            "bytes_per_second_and_host": per_host * found["batch"] * chips / config.batch_size,
            "input_cores": per_host * SECONDS_PER_IMAGE,
            "days": length.steps * seconds / 86400,
            "chip_hours": length.steps * seconds / 3600 * chips,
        }
    return result | {"advice": advise(result, config, topology)}

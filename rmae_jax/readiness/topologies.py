"""Topologies of accelerators: parsing of --topology, and devices for JAX to compile for without having them."""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

from rmae_jax.readiness.chips import CHIPS, Chip
from rmae_jax.runtime.library_logging import LIBTPU_WITHOUT_TPU

# Must be set before JAX is imported. Otherwise, libtpu would also allow only one process per machine at a time.
ENVIRONMENT = LIBTPU_WITHOUT_TPU | {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_PLUGINS = {"tpu": ("libtpu", "tpu"), "cuda": ("jax_cuda13_plugin", "cuda")}


class TopologyError(ValueError):
    """A topology that does not exist, or that cannot be compiled for on this machine."""


@dataclasses.dataclass(frozen=True)
class Topology:
    """A number of connected chips of one kind."""

    name: str  # as given
    chip: Chip
    shape: tuple[int, ...]  # v5e:4x8 is (4, 8), h100:16 is (16,)

    @property
    def num_chips(self) -> int:
        return math.prod(self.shape)

    @property
    def num_hosts(self) -> int:
        return math.ceil(self.num_chips / self.chip.per_host)


def parse(name: str) -> Topology:
    """Reads CHIP:SHAPE: v5e:16x16, v5p:2x2x4, h100:8.

    Raises:
      TopologyError: the name is invalid; the message shows valid ones.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    chip = CHIPS.get(found[1]) if found else None
    if chip is None:
        raise TopologyError(
            f"topology {name!r} is unknown; give CHIP:SHAPE, for example v5e:16x16, v5p:2x2x4 or h100:8, "
            f"with CHIP one of {', '.join(CHIPS)}"
        )
    topology = Topology(name, chip, tuple(int(n) for n in found[2].split("x")))
    dimensions = {"v5e": (2,), "v6e": (2,), "v4": (3,), "v5p": (3,)}.get(chip.name, (1,))
    if len(topology.shape) not in dimensions or 0 in topology.shape:
        example = {1: "8", 2: "4x4", 3: "2x2x4"}[dimensions[0]]
        raise TopologyError(f"topology {name!r}: {chip.name} needs a shape like that of {chip.name}:{example}")
    if chip.largest and topology.num_chips > chip.largest:
        raise TopologyError(f"topology {name!r} has {topology.num_chips} chips; {chip.name} has at most {chip.largest}")
    if chip.platform == "tpu" and topology.num_chips > 1 and any(n % 2 for n in topology.shape[:2]):
        raise TopologyError(f"topology {name!r}: a host has 2 x 2 chips, so its first two sides must be even")
    if chip.platform == "cuda" and topology.num_chips > chip.per_host and topology.num_chips % chip.per_host:
        raise TopologyError(f"topology {name!r}: more than {chip.per_host} GPUs must be a multiple of {chip.per_host}")
    return topology


def check_installed(topology: Topology) -> None:
    """Raises TopologyError if the compiler for a topology is not installed."""
    package, extra = _PLUGINS[topology.chip.platform]
    if importlib.util.find_spec(package) is None:
        raise TopologyError(f"compiling for {topology.name} needs {package}: pip install -e .[{extra}]")


def devices(topology: Topology) -> Sequence["jax.Device"]:
    """Returns the devices of a topology, to compile for but not to run on.

    Raises:
      TopologyError: the compiler does not support the topology; the message has its reason.
    """
    import jax
    from jax.experimental import topologies

    if missing := {key: value for key, value in ENVIRONMENT.items() if os.environ.get(key) != value}:
        raise RuntimeError(f"set these environment variables before JAX is imported: {missing}")
    chip = topology.chip
    if chip.platform == "tpu":
        name, options = topology.name, {}
        if topology.num_chips == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        if chip.name in ("v4", "v5p"):
            options["chip_config_name"] = "megacore"  # a chip's two cores are one device, as JAX shows such chips
    else:
        hosts = topology.num_hosts
        options = {"target_config": _target(chip), "topology": f"1x{hosts}x{topology.num_chips // hosts}"}
        name = chip.name
    try:
        return topologies.get_topology_desc(platform=chip.platform, topology_name=name, **options).devices
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise TopologyError(f"topology {topology.name!r}: {' '.join(str(error).split())}") from error


def _target(chip: Chip) -> str:
    """Describes a GPU for XLA's compiler, as the text of a GpuTargetConfigProto.

    The numbers are NVIDIA's: the CUDA programming guide's table of compute capabilities, and the data sheets.
    """
    cores, fpus, shared, optin, cache, clock, major, features = {
        "h100": (132, 128, 233472, 232448, 50 * 2**20, 1.98, 9, "ACCELERATED_FEATURES"),
        "a100": (108, 64, 167936, 166912, 40 * 2**20, 1.41, 8, "NONE"),
    }[chip.name]
    return f"""
      gpu_device_info {{
        threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
        shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {optin}
        registers_per_core_limit: 65536 registers_per_block_limit: 65536
        core_count: {cores} fpus_per_core: {fpus} clock_rate_ghz: {clock}
        block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
        thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
        memory_bandwidth: {chip.bandwidth:.0f} l2_cache_size: {cache} device_memory_size: {chip.memory}
        cuda_compute_capability {{ major: {major} feature_extension: {features} }}
        dnn_version: "9.10.0" device_vendor: "NVIDIA Corporation"
      }}
      platform_name: "CUDA"
      dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
      device_description_str: "{chip.name.upper()}"
    """

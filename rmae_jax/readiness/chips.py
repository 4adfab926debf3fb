"""Specifications of accelerator chips: speed, memory, links, and the machines that contain them.

Sources, read in November 2026. TPU: the tables of cloud.google.com/tpu/docs (v4, v5e, v5p, v6e) and, for processors per
machine, of cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (those of v4, v5e and v6e from memory). Links
count what a chip can send, half of the bidirectional bandwidth. The clock follows from the peak and the multiply-adds
of the matrix units per cycle (4 units of 128 x 128 per core; v6e: the equivalent of 16 of these). In the compiler's own
estimates, a bf16 product of 8192 x 8192 x 8192 reaches 0.70 (v6e) to 0.90 (v4, v5p) of that rate. GPU: NVIDIA's data
sheets of the SXM modules (dense bf16, NVLink), in machines of eight with 208 (a3-highgpu-8g) and 96 (a2-ultragpu-8g)
virtual processors.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """The specification of one accelerator chip, which JAX shows as one device."""

    name: str
    platform: str  # "tpu" or "cuda"
    peak: float  # peak speed of bf16 products, FLOP/s
    memory: int  # memory, bytes
    bandwidth: float  # memory bandwidth, bytes/s
    link: float  # sending rate to neighbours in a slice (TPU) or machine (GPU), bytes/s
    clock: float | None  # clock of the TPU compiler's cycles, Hz; None for GPUs
    per_host: int  # chips per machine, in a slice of several machines
    host_cpus: int  # virtual processors of such a machine, two per core
    largest: int | None = None  # largest number of chips that links connect


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "tpu", 275e12, 32 * GIB, 1228e9, 150e9, 1.05e9, 4, 240, 4096),
        Chip("v5e", "tpu", 197e12, 16 * GIB, 819e9, 200e9, 1.5e9, 4, 112, 256),
        Chip("v5p", "tpu", 459e12, 95 * GIB, 2765e9, 600e9, 1.75e9, 4, 208, 6144),
        Chip("v6e", "tpu", 918e12, 32 * GIB, 1640e9, 400e9, 1.75e9, 4, 180, 256),
        Chip("h100", "cuda", 989e12, 80 * GIB, 3350e9, 450e9, None, 8, 208),
        Chip("a100", "cuda", 312e12, 80 * GIB, 2039e9, 300e9, None, 8, 96),
    )
}

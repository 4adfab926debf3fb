"""The private names of JAX, Orbax and Python that this package relies on, in one place.

Any release of these libraries may move them; tests/runtime/test_private_apis.py fails when one does.
"""

import threading
from collections.abc import Callable
from typing import Any

from jax._src import distributed
from jax._src.clusters import cloud_tpu_cluster

ORBAX_UNFINISHED = ".orbax-checkpoint-tmp"  # suffix of the folder of a checkpoint that is being written
ORBAX_METADATA = "_CHECKPOINT_METADATA"  # file of a checkpoint, JSON with "custom_metadata"


def process_id() -> int:
    """Returns the index of this process among those of jax.distributed; 0 if it is the only one."""
    return distributed.global_state.process_id


def num_processes() -> int:
    """Returns the number of processes of jax.distributed."""
    return distributed.global_state.num_processes


def coordinator_address() -> str:
    """Returns HOST:PORT of the coordinator of jax.distributed."""
    return distributed.global_state.coordinator_address


def key_value_store() -> Any:
    """Returns the client of the coordinator's key-value store, which works without devices and while they are stuck."""
    return distributed.global_state.client


def is_tpu_pod() -> bool:
    """Returns whether this process runs on a host of a Cloud TPU slice."""
    clusters = (cloud_tpu_cluster.GceTpuCluster, cloud_tpu_cluster.GkeTpuCluster)
    return any(cluster.is_env_present() for cluster in clusters)


def call_before_threads_join(function: Callable[[], None]) -> None:
    """Registers a function that Python calls at exit before it joins threads; functions of atexit run after that."""
    threading._register_atexit(function)

"""Management of processes that run commands: hosts, signals, memory allocator, compilation cache, crash messages."""

from rmae_jax.runtime.hosts import HostError, connect_hosts
from rmae_jax.runtime.signals import Interrupted, StopSignals

__all__ = ["HostError", "Interrupted", "StopSignals", "connect_hosts"]

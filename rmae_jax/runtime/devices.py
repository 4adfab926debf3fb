"""JAX's devices."""

import os

import jax


class DeviceError(OSError):
    """JAX cannot start the devices of this machine."""


def devices() -> list[jax.Device]:
    """Returns all devices of the run; the first call starts them.

    Raises:
      DeviceError: JAX cannot start the devices that JAX_PLATFORMS names.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: the plugin of the platform is not installed
        named = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "JAX's plugin for them is not installed"
        raise DeviceError(
            f"JAX cannot start its devices (JAX_PLATFORMS={named}): {reason}; JAX_PLATFORMS=cpu takes the CPU"
        ) from error

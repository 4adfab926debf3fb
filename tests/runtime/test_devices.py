"""Devices that JAX cannot start."""

import jax
import pytest

from rmae_jax.runtime.devices import DeviceError, devices


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (
            RuntimeError("Unable to initialize backend 'tpu':\nno device"),
            "Unable to initialize backend 'tpu': no device",
        ),
        (AssertionError(), "JAX's plugin for them is not installed"),
    ],
)
def test_the_variable_and_the_reason_are_named(monkeypatch, raised, reason):
    def fail():
        raise raised

    assert devices() == jax.devices()
    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    with pytest.raises(DeviceError) as caught:
        devices()
    assert str(caught.value) == (
        f"JAX cannot start its devices (JAX_PLATFORMS=tpu): {reason}; JAX_PLATFORMS=cpu takes the CPU"
    )

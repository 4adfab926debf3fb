"""What saves memory, accumulation and rematerialisation, and does not change what is learned."""

import eight_devices
import jax
import numpy as np
import pytest

CONFIG = {"model.objective": "mae", "model.image_size": 32, "model.decoder_depth": 5, "model.separate_masks": True}
WAYS = {
    "plain": {},
    "accumulated": {"accumulation_steps": 4},
    "attention": {"remat": "attention"},
    "full": {"remat": "full"},
    "kernel": {"attention": "kernel"},
    "kernel again": {"attention": "kernel", "remat": "full"},
    "unrolled": {"blocks": "unrolled"},
    "unrolled kernel": {"attention": "kernel", "blocks": "unrolled"},
}


@pytest.fixture(scope="module")
def trained() -> dict:
    """For each way: bytes of the step's temporaries, its losses and the parameters after it."""
    batch = {"images": np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)}
    found, initial = {}, None
    for name, changes in WAYS.items():
        _, state, step, placed = eight_devices.start(eight_devices.toy_recipe(**CONFIG, **changes), batch, initial)
        initial = initial or jax.device_get(state)
        state, losses = eight_devices.train(state, step, placed)
        found[name] = step.memory_analysis().temp_size_in_bytes, losses, eight_devices.named(state.params)
    return found


@pytest.mark.parametrize("name", list(WAYS)[1:])
def test_the_numbers_are_the_same(trained, name):
    (_, expected, expected_params), (_, losses, params) = trained["plain"], trained[name]
    assert np.allclose(losses, expected, rtol=1e-5)
    for key, value in params.items():
        assert np.allclose(value, expected_params[key], atol=2e-4), key


def test_the_memory_is_not(trained):
    plain, accumulated, attention, full = (trained[name][0] for name in list(WAYS)[:4])
    print(f"plain {plain}, accumulated {accumulated}, attention {attention}, full {full} bytes")
    assert accumulated < 0.5 * plain
    assert attention < 0.85 * plain
    assert full < 0.6 * plain

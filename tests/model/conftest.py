import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmae_jax.model import Mask


@pytest.fixture
def images() -> jax.Array:
    """Two normalised images."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)


@pytest.fixture
def regions() -> jax.Array:
    """Five blobs for each of the two images."""
    rows, columns = np.mgrid[:32, :32]
    rng = np.random.default_rng(1)
    centres, radii = rng.uniform(0, 32, (2, 5, 2, 1, 1)), rng.uniform(4, 14, (2, 5, 1, 1))
    inside = (rows - centres[:, :, 0]) ** 2 + (columns - centres[:, :, 1]) ** 2 < radii**2
    return jnp.asarray(inside, jnp.float32)


@pytest.fixture
def mask() -> Mask:
    """Four of sixteen patches visible."""
    return Mask.random(jax.random.key(2), 2, 16, 0.75)

"""The region branch against the NumPy float64 reference in region_reference.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from region_reference import region_branch
from toy import forward, reconstruct, toy_config, toy_model

from rmae_jax.model import RMAE, Mask


def randomised(changes: dict) -> RMAE:
    """A model whose biases, norms and tokens are far from their initial values."""
    graphdef, params = nnx.split(toy_model(**changes))
    leaves, tree = jax.tree.flatten(nnx.to_pure_dict(params))
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, moved))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"region_decoder_depth": 3},
        {"region_mask_ratio": 0.5, "region_encoder_depth": 2},
        {"mask_ratio": 0.5, "background_weight": 0.25, "neck_depth": 1, "patch_size": 16},
    ],
)
def test_queries_memory_logits_and_loss_are_equal(changes, images, regions):
    config = toy_config(**changes)
    model = randomised(changes)
    num_patches = (32 // config.patch_size) ** 2
    permutation = np.stack([np.random.default_rng(i).permutation(num_patches) for i in range(2)])
    mask = Mask.from_permutation(jnp.asarray(permutation), config.mask_ratio)
    outputs = forward(model, images, regions, mask)

    params = jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(nnx.state(model)))
    region_visible = round(num_patches * (1 - config.region_mask_ratio))
    queries, memory, logits, loss = region_branch(
        params,
        np.asarray(outputs.latent, np.float64),
        np.asarray(regions, np.float64),
        permutation,
        round(num_patches * (1 - config.mask_ratio)),
        region_visible,
        config.patch_size,
        config.region_num_heads,
    )
    assert np.allclose(outputs.queries, queries, atol=1e-5)
    assert np.allclose(outputs.memory, memory, atol=1e-5)
    assert np.allclose(reconstruct(model, images, regions, mask).regions, logits, atol=1e-5)
    masked = permutation[:, None, region_visible:, None]
    assert np.allclose(outputs.region_pred, np.take_along_axis(logits, masked, axis=2), atol=1e-5)
    assert abs(float(outputs.region_loss) - loss(config.background_weight)) < 1e-6

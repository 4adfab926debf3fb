import numpy as np
import pytest
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from rmae_jax.model.patches import patchify, unpatchify
from rmae_jax.model.positions import sincos_positions


def test_patches_are_rows_of_squares_in_row_column_channel_order():
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    patches = np.asarray(patchify(image, 4))
    assert patches.shape == (2, 6, 48)
    for row in range(2):
        for column in range(3):
            square = image[1, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.array_equal(patches[1, 3 * row + column], square.ravel())


def test_unpatchify_is_the_inverse():
    image = np.random.default_rng(1).normal(size=(2, 5, 8, 12, 1)).astype(np.float32)
    assert np.array_equal(unpatchify(patchify(image, 4), (2, 3), 4), image)


@pytest.mark.parametrize(("width", "side"), [(768, 14), (128, 14), (32, 6)])
def test_positions_are_those_of_mae(width, side):
    """MAE's released weights hold the column's half first; transformers 5 builds the row's half first."""
    theirs = build_2d_sinusoidal_position_embedding(side, side, width).numpy()
    column_first = np.concatenate([theirs[:, width // 2 :], theirs[:, : width // 2]], axis=1)
    assert np.allclose(sincos_positions(width, (side, side)), column_first, atol=1e-6)


def test_positions_of_a_grid_that_is_not_square_are_rows_of_a_larger_one():
    whole = sincos_positions(16, (7, 9)).reshape(7, 9, 16)
    assert np.array_equal(sincos_positions(16, (4, 9)).reshape(4, 9, 16), whole[:4])


def test_a_width_that_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(30, (2, 2))

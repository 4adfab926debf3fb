"""Preparation of single photographs: sizes, and the memory that a thin photograph may take."""

import numpy as np
import pytest

from rmae_jax import photographs


def test_the_ends_of_a_thin_photograph_are_cut_before_it_is_resized(monkeypatch):
    sizes = []
    resize = photographs.resize_bicubic
    monkeypatch.setattr(photographs, "resize_bicubic", lambda *args: sizes.append(args[2:]) or resize(*args))
    pixels = np.zeros((2, 20_001, 3), np.uint8)
    pixels[:, 9_900:10_101] = 200  # the centre
    photograph = photographs.view("thin", pixels, 32, 16, longest_aspect=1)
    assert (photograph.image == 200).all() and photograph.image.shape == (32, 32, 3)
    assert photograph.layers.shape[1:] == (32, 32)
    assert sizes == [(32, 16 * 32)]


def test_the_limit_of_patches_counts_those_of_the_longest_aspect():
    photographs.check_size(896, 16, longest_aspect=1)  # 56 * 56 patches
    with pytest.raises(ValueError, match="image size 896 may give 6272 patches; at most 4096"):
        photographs.check_size(896, 16)

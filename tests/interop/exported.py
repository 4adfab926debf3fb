"""A toy model to export, and images for both libraries."""

from types import SimpleNamespace

import ml_collections
import torch
from toy import randomised, toy_config


def make_toy(**changes) -> SimpleNamespace:
    """A model far from its initial weights, the recipe that it belongs to, and two images."""
    config = ml_collections.ConfigDict({"model": toy_config(**changes)})
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(
        model=randomised(**changes),
        config=config,
        images=images,
        channels_last=images.permute(0, 2, 3, 1).numpy(),
    )

"""What a run shows of itself: the same photographs at every so many steps, and its losses."""

from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree

from rmae_jax import data
from rmae_jax.training import hosts, pictures
from rmae_jax.training.abstract import abstract_model
from rmae_jax.training.mesh import local_copy
from rmae_jax.training.metrics import draw_losses, naming

PHOTOGRAPHS = 6


class Shown:
    """Draws RUN/pictures/STEP.png and RUN/losses.png, on host 0."""

    def __init__(self, config: ml_collections.ConfigDict, run: Path, held: data.TFRecordSource, **view: int):
        """Takes photographs from all over `held`; see `rmae_jax.data.batches` for `view`.

        Raises:
          DatasetError: one of them is damaged, or regions are asked for and there are none.
        """
        self._run, self._seed = run, config.seed
        spread = np.linspace(0, len(held) - 1, min(PHOTOGRAPHS, len(held))).astype(int).tolist()
        self._batch = data.center_examples(held, spread, seed=config.seed, on_error=config.data.on_error, **view)
        self._graphdef = abstract_model(config.model)[0]

    def draw(self, step: int, params: PyTree[jax.Array], mesh: Mesh) -> None:
        """Draws what parameters make of the photographs, and the losses so far. All hosts must take part.

        Raises:
          OSError: a picture cannot be written.
        """
        params = local_copy(params, mesh)
        if not hosts.is_first():
            return
        picture, curve = self._run / "pictures" / f"{step:07d}.png", self._run / "losses.png"
        with naming(picture):
            model = nnx.merge(self._graphdef, params)
            pictures.draw(model, self._batch["images"], self._batch.get("regions"), picture, self._seed)
        with naming(curve):
            draw_losses(self._run / "metrics.jsonl", curve)

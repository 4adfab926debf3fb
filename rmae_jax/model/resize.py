"""A trained model at another image size."""

import jax
import ml_collections

from rmae_jax.model.rmae import RMAE


def at_size(model: RMAE, height: int, width: int) -> RMAE:
    """The same weights for images of another size: position tables are interpolated, as is usual for ViTs.

    The longer side's patches are spread over the positions of the size that the model was trained at; the table's
    formula holds between its rows, so nothing is approximated.

    Args:
      model: as trained.
      height: of the images, in pixels.
      width: of the images, in pixels.

    Raises:
      ValueError: the size is not a multiple of the patch size.
    """
    config = model.config
    if height < 1 or width < 1 or height % config.patch_size or width % config.patch_size:
        raise ValueError(f"images of {height} x {width} pixels cannot be cut into patches of {config.patch_size}")
    size = max(height, width)
    if size == config.image_size:
        return model
    scale = config.position_scale * config.image_size / size
    resized = jax.tree.map(lambda leaf: leaf, model)  # a copy: modules are trees
    resized.encoder.position_scale = scale
    changed = {**config.to_dict(), "image_size": size, "position_scale": scale}
    resized.config = ml_collections.FrozenConfigDict(changed)
    return resized

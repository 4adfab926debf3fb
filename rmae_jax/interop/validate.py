"""Checks of whether a state dict fits a config, with messages that explain why not."""

import re
from collections.abc import Iterable, Mapping

import ml_collections
import numpy as np
from flax import nnx

from rmae_jax.interop.errors import InteropError, join_names
from rmae_jax.interop.layout import FORMS, PARTS, flat_params, parts_of
from rmae_jax.model import RMAE

# Sizes that can be read from a state dict: the config key -> a tensor and its axis.
WIDTHS = {
    "width": ("cls_token", -1),
    "patch_size": ("patch_embed.proj.weight", -1),
    "decoder_width": ("mask_token", -1),
    "region_width": ("region_cross_mask_token", -1),
}
DEPTHS = {
    "depth": "blocks",
    "decoder_depth": "decoder_blocks",
    "neck_depth": "region_cross_blocks",
    "region_encoder_depth": "region_enc_blocks",
    "region_decoder_depth": "region_dec_blocks",
}


def check_variant(config: ml_collections.ConfigDict, parts: Iterable[str]) -> None:
    """Checks that PyTorch's layouts can represent the model's variant.

    Args:
      config: `config.model` of a recipe.
      parts: the parts of the model that are to be stored, keys of `PARTS`.

    Raises:
      InteropError: a part is of another variant than in the authors' release.
    """
    if "regions" in parts and config.region_variant != "length":
        raise InteropError(
            f"PyTorch's layouts hold a region branch of variant 'length' only, not {config.region_variant!r}; "
            "formats mae, timm and transformers omit the region branch"
        )
    if config.feeding_direction != "pixel_to_region" and set(parts) != {"encoder"}:
        raise InteropError(
            f"the model's feeding_direction is {config.feeding_direction!r}, so its decoders differ from those of "
            "PyTorch's layouts; format timm holds only the encoder"
        )


def parts_that_fit(state: Mapping[str, np.ndarray], config: ml_collections.ConfigDict) -> list[str]:
    """Returns the parts that a state dict contains, after checking that their tensors are complete and fit the config.

    Args:
      state: arrays by the names of the "rmae" layout or a part of it.
      config: `config.model` of a recipe.

    Raises:
      InteropError: there is no encoder, names are missing or unexpected, or shapes differ. The message names the sizes
        of the config that differ, if any.
    """
    shapes = expected_shapes(config)
    if not shapes["encoder"].keys() & state.keys():
        raise InteropError(
            "not the weights of a ViT in the layout of R-MAE, MAE, timm or transformers' ViTMAE; "
            f"tensors found: {join_names(sorted(state)) or 'none'}"
        )
    present = [part for part in PARTS if part == "encoder" or shapes[part].keys() & state.keys()]
    expected = {name: shape for part in present for name, shape in shapes[part].items()}
    complaints = []
    if missing := [name for name in expected if name not in state]:
        complaints.append(f"missing: {join_names(missing)}")
    if unexpected := sorted(state.keys() - expected.keys()):
        complaints.append(f"unexpected: {join_names(unexpected)}")
    tables = {table for part in present for table in PARTS[part].tables}
    differing = [
        name
        for name in expected.keys() & state.keys()
        # A table may have another grid, which is its second axis.
        if (state[name].shape[::2] != expected[name][::2] if name in tables else state[name].shape != expected[name])
    ]
    if differing:
        named = [f"{name} {state[name].shape} instead of {expected[name]}" for name in sorted(differing)]
        complaints.append(f"wrong shapes: {join_names(named, 3)}")
    if complaints:
        sizes = _differing_sizes(state, config)
        reason = f"the weights are those of another model ({'; '.join(sizes)}); " if sizes else ""
        raise InteropError(f"{reason}{'; '.join(complaints)}")
    for part in present:
        if part not in parts_of(config):
            raise InteropError(
                f"the weights contain a {PARTS[part].title}, which objective {config.objective!r} does not have: "
                f"{join_names(list(shapes[part]), 3)}; remove it, or choose another objective"
            )
    if "regions" in present:
        check_variant(config, present)
    return present


def expected_shapes(config: ml_collections.ConfigDict) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns, by part, the shapes of all tensors that the layouts have for a model of this size."""
    whole = ml_collections.ConfigDict(config)
    whole.update({"objective": "rmae", "region_variant": "length", "feeding_direction": "pixel_to_region"})
    params = flat_params(nnx.eval_shape(lambda: RMAE(whole, rngs=nnx.Rngs(0))))
    num_tokens = 1 + (config.image_size // config.patch_size) ** 2
    shapes = {}
    for key, part in PARTS.items():
        shapes[key] = {table: (1, num_tokens, config[width]) for table, width in part.tables.items()}
        for name, path, layer, form in part.weights(config):
            shape = params[path].shape if layer is None else params[path].shape[1:]
            nothing = np.broadcast_to(np.float32(0), shape)  # takes no memory
            shapes[key][name] = FORMS[form].to_torch(nothing, config.patch_size).shape
    return shapes


def _differing_sizes(state: Mapping[str, np.ndarray], config: ml_collections.ConfigDict) -> list[str]:
    found = {key: state[name].shape[axis] for key, (name, axis) in WIDTHS.items() if name in state and state[name].ndim}
    for key, prefix in DEPTHS.items():
        layers = {int(match[1]) for name in state if (match := re.match(rf"{prefix}\.(\d+)\.", name))}
        if layers:
            found[key] = len(layers)
    return [
        f"model.{key} is {config[key]}, but {size} in the weights" for key, size in found.items() if size != config[key]
    ]

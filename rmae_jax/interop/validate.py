"""Whether a state dict fits a config, and what to say where it does not."""

import re
from collections.abc import Iterable, Mapping

import ml_collections
import numpy as np
from flax import nnx

from rmae_jax.interop.errors import InteropError, listed
from rmae_jax.interop.layout import FORMS, PARTS, flat_params, parts_of
from rmae_jax.model import RMAE

# Sizes that a state dict shows: the config's key, a tensor and its axis.
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
    """Refuses layouts that have no place for what a variant of the method adds.

    Args:
      config: `config.model` of a recipe.
      parts: of the model, that are to be stored.

    Raises:
      InteropError: a part is there in another variant than that of the authors' release.
    """
    if "regions" in parts and config.region_variant != "length":
        raise InteropError(
            f"PyTorch's layouts hold the region branch of variant 'length', not {config.region_variant!r}; "
            "formats mae, timm and transformers leave it out"
        )
    if config.feeding_direction != "pixel_to_region" and set(parts) != {"encoder"}:
        raise InteropError(
            f"the model's feeding_direction is {config.feeding_direction!r}: its decoders are not those of PyTorch's "
            "layouts; format timm holds the encoder alone"
        )


def parts_that_fit(state: Mapping[str, np.ndarray], config: ml_collections.ConfigDict) -> list[str]:
    """The parts that a state dict has, every tensor of them there and of the config's size.

    Args:
      state: arrays by the names of the "rmae" layout or a part of it.
      config: `config.model` of a recipe.

    Raises:
      InteropError: no encoder is there, or names are missing or unexpected, or shapes differ; says in which size of the
        config, if it is one.
    """
    shapes = expected_shapes(config)
    if not shapes["encoder"].keys() & state.keys():
        raise InteropError(
            "not the weights of a ViT in the layout of R-MAE, MAE, timm or transformers' ViTMAE; "
            f"there are {listed(sorted(state)) or 'none'}"
        )
    present = [part for part in PARTS if part == "encoder" or shapes[part].keys() & state.keys()]
    expected = {name: shape for part in present for name, shape in shapes[part].items()}
    complaints = []
    if missing := [name for name in expected if name not in state]:
        complaints.append(f"missing are {listed(missing)}")
    if unexpected := sorted(state.keys() - expected.keys()):
        complaints.append(f"unexpected are {listed(unexpected)}")
    tables = {table for part in present for table in PARTS[part].tables}
    differing = [
        name
        for name in expected.keys() & state.keys()
        # A table may be of another grid: its second axis.
        if (state[name].shape[::2] != expected[name][::2] if name in tables else state[name].shape != expected[name])
    ]
    if differing:
        named = [f"{name} {state[name].shape} instead of {expected[name]}" for name in sorted(differing)]
        complaints.append(f"of another shape are {listed(named, 3)}")
    if complaints:
        sizes = _differing_sizes(state, config)
        reason = f"the weights are of another model ({'; '.join(sizes)}): " if sizes else ""
        raise InteropError(f"{reason}{'; '.join(complaints)}")
    for part in present:
        if part not in parts_of(config):
            raise InteropError(
                f"there is a {PARTS[part].title}, for which objective {config.objective!r} has no place: "
                f"{listed(list(shapes[part]), 3)}; leave it out, or choose another objective"
            )
    if "regions" in present:
        check_variant(config, present)
    return present


def expected_shapes(config: ml_collections.ConfigDict) -> dict[str, dict[str, tuple[int, ...]]]:
    """By part, the shape of every tensor that the layouts know of a model of this size."""
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
    return [f"model.{key} is {config[key]}, theirs {size}" for key, size in found.items() if size != config[key]]

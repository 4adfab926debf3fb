"""Conversion of a model to a PyTorch state dict, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from rmae_jax.interop import transformers
from rmae_jax.interop.errors import InteropError
from rmae_jax.interop.layout import FORMS, PARTS, StateDict, flat_params, parts_of
from rmae_jax.interop.position_table_checks import scale_of_tables, stored_table
from rmae_jax.interop.state_names import plain_names
from rmae_jax.interop.validate import check_variant, parts_that_fit
from rmae_jax.model import RMAE
from rmae_jax.model.shapes import abstract_model

FORMATS = {
    "rmae": ("encoder", "decoder", "regions"),
    "mae": ("encoder", "decoder"),
    "timm": ("encoder",),
    "transformers": ("encoder", "decoder"),
}


def to_torch(model: RMAE, format: str = "rmae") -> StateDict:
    """Converts a model's weights to the names and shapes of a PyTorch layout.

    Args:
      model: a model of any objective; parts that it does not have are omitted.
      format: "rmae" (all weights, named as in the authors' release), "mae" (facebookresearch/mae: encoder and pixel
        decoder, which MAE's fine-tuning, detectron2's ViTDet and mmsegmentation read), "timm" (the encoder, for
        `timm.create_model("vit_base_patch16_224", num_classes=0)`) or "transformers" (ViTMAEForPreTraining).

    Returns:
      float32 arrays by name. They are copies that torch.from_numpy accepts without conversion.

    Raises:
      InteropError: the format is unknown, or cannot represent the model's variant.
    """
    config = model.config
    if format not in FORMATS:
        raise InteropError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    parts = [part for part in FORMATS[format] if part in parts_of(config)]
    check_variant(config, parts)
    params, state = flat_params(model), {}
    for part in parts:
        for table, width in PARTS[part].tables.items():
            side = config.image_size // config.patch_size
            state[table] = stored_table(config[width], side, config.position_scale)
        for name, path, layer, form in PARTS[part].weights(config):
            value = np.asarray(params[path] if layer is None else params[path][layer], np.float32)
            state[name] = np.array(FORMS[form].to_torch(value, config.patch_size), order="C")
    return transformers.from_mae(state) if format == "transformers" else state


def from_torch(state_dict: Mapping[str, Any], config: ml_collections.ConfigDict, *, seed: int | None = None) -> RMAE:
    """Builds a model with the weights of a state dict in any of the formats, which is recognised by its names.

    A prefix of all names and heads of other tasks are ignored. Each of encoder, pixel decoder and region branch must be
    complete or absent. Position tables are checked by value. Tables of another grid than the config's, and MAE's tables
    resized by other programs, are computed anew for the config's grid, which sets `model.config.position_scale`.

    Args:
      state_dict: arrays, or tensors in CPU memory, by name.
      config: a recipe. Its `model` determines the tensors that must be present, and the number of heads, which no
        tensor's shape shows.
      seed: the seed of the initial weights of a pixel decoder or region branch that is not in the state dict.

    Raises:
      InteropError: names are missing or unexpected, shapes differ, a table is not MAE's, or a part is absent and there
        is no seed.
      ValueError: the values in the recipe's `model` are invalid or contradict each other.
    """
    return read_model(state_dict, config, seed=seed)[0]


def read_model(
    state_dict: Mapping[str, Any], config: ml_collections.ConfigDict, *, seed: int | None = None
) -> tuple[RMAE, list[str]]:
    """Like `from_torch`; also returns notes about what was removed, initialised or computed anew."""
    state, notes = plain_names(state_dict)
    state = transformers.to_mae({name: _array(name, value) for name, value in state.items()})
    model_config = ml_collections.ConfigDict(config.model)
    parts = parts_that_fit(state, model_config)
    absent = [PARTS[part].title for part in parts_of(model_config) if part not in parts]
    if absent and seed is None:
        raise InteropError(
            f"no {' and no '.join(absent)} in the state dict, but objective {model_config.objective!r} needs it; "
            "give a seed to initialise the missing weights"
        )
    tables = {name: state[name] for part in parts for name in PARTS[part].tables}
    weights = [weight for part in parts for weight in PARTS[part].weights(model_config)]
    _check_dtypes(state, [*tables, *(weight.name for weight in weights)])
    scale, resized = scale_of_tables(tables, model_config)
    if resized:
        notes.append(resized)
    if absent:
        notes.append(f"newly initialised: {', '.join(absent)}")
    if scale != model_config.position_scale:
        notes.append(f"position tables interpolated, position_scale {scale:g}")
    model_config.position_scale = scale

    graphdef, shapes = abstract_model(model_config)
    params = flax.traverse_util.flatten_dict(shapes, sep="/")
    if absent:
        params = flat_params(jax.jit(lambda: RMAE(model_config, rngs=nnx.Rngs(seed)))())
    read: dict[str, list[np.ndarray]] = {}
    for weight in weights:
        value = FORMS[weight.form].from_torch(state[weight.name].astype(np.float32))
        read.setdefault(weight.path, []).append(value if weight.layer is None else value[None])
    params |= {path: jnp.concatenate(values) for path, values in read.items()}
    return nnx.merge(graphdef, flax.traverse_util.unflatten_dict(params, sep="/")), notes


def _array(name: str, value: Any) -> np.ndarray:
    """Converts a state dict's value to an array; bfloat16, which PyTorch cannot convert to NumPy, by way of float32."""
    if hasattr(value, "detach"):
        try:
            half = str(value.dtype) == "torch.bfloat16"
            return value.detach().float().numpy().astype(jnp.bfloat16) if half else value.detach().numpy()
        except (TypeError, RuntimeError, NotImplementedError) as error:  # quantised, sparse, without data, 8 bits
            raise InteropError(f"{name} cannot be converted to an array: {' '.join(str(error).split())}") from error
    return np.asarray(value)


def _check_dtypes(state: transformers.Tensors, names: Iterable[str]) -> None:
    for name in names:
        if not jnp.issubdtype(state[name].dtype, jnp.floating):
            raise InteropError(f"{name} is not a floating-point array; its type is {state[name].dtype}")

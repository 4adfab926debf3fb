"""Reading and writing of state dicts: .safetensors, PyTorch's .pth with only tensors, and transformers' folders."""

import argparse
import glob
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import safetensors.numpy

from data_prep.storage.atomic_write import atomic_folder, atomic_write, remove_unfinished
from data_prep.storage.paths import local_path
from rmae_jax.interop import transformers
from rmae_jax.interop.convert import to_torch
from rmae_jax.interop.errors import InteropError, join_names
from rmae_jax.interop.layout import StateDict
from rmae_jax.model import RMAE

PTH = (".pth", ".pt", ".bin", ".ckpt")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # in a transformers folder, either whole or in shards
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "module")  # keys of a checkpoint's weights
# The exceptions that torch.load raises for a corrupt file, in the old format too.
CORRUPT_FILE_ERRORS = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    OSError,
    struct.error,
    zipfile.BadZipFile,
)


def write(model: RMAE, path: str | Path, format: str = "rmae", *, overwrite: bool = False) -> StateDict:
    """Writes a model's weights to a file atomically.

    Args:
      model: a model of any objective.
      path: a file name that ends in .safetensors, or in .pth for plain tensors that `torch.load(weights_only=True)`
        reads (in "rmae" and "mae" as {"model": state_dict}, like MAE's code). For "transformers" a folder, to which
        model.safetensors, config.json and preprocessor_config.json are written.
      format: the layout, see `to_torch`.
      overwrite: whether to replace an existing file, or the files in the folder.

    Returns:
      The state dict that was written.

    Raises:
      InteropError: the path exists or has another ending, or `to_torch` raises it.
    """
    path = Path(path).absolute()
    if format == "transformers":
        if path.suffix in (".safetensors", *PTH) or path.is_file():
            raise InteropError(f"{path}: format transformers writes a folder; give the name of a folder")
    elif path.suffix not in (".safetensors", ".pth") or path.is_dir():
        raise InteropError(f"{path}: give a file name that ends in .safetensors or .pth")
    if path.exists() and not overwrite:
        raise InteropError(f"{path} already exists; choose another name, or replace it with --overwrite")
    torch = _torch(path) if path.suffix == ".pth" else None
    state = to_torch(model, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent, glob.escape(path.name))
    if format == "transformers":
        with atomic_folder(path) as folder:
            (folder / WEIGHTS[0]).write_bytes(safetensors.numpy.save(state, metadata={"format": "pt"}))
            transformers.write_configs(folder, model.config)
        return state
    if torch is None:
        with atomic_write(path) as out:
            # Not save_file, whose files only their owner can read.
            out.write(safetensors.numpy.save(state, metadata={"format": "pt"}))
        return state
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    with atomic_folder(path.parent, scratch=path.parent) as folder:
        # torch.save stores the file's name in the file: with a fixed name, equal weights give equal bytes.
        partial = folder / f".{path.name}.partial"
        torch.save({"model": tensors} if format in ("rmae", "mae") else tensors, partial)
        partial.rename(folder / path.name)
    return state


def read(path: str | Path) -> dict[str, Any]:
    """Reads the tensors of a file, without running any code that it contains.

    Args:
      path: a .safetensors file; a PyTorch .pth, .pt, .bin or .ckpt file, with the tensors at the top level or below
        one of `WRAPPERS`, beside which anything may be stored; or a transformers folder, with one file or several.

    Returns:
      Arrays or tensors by name.

    Raises:
      InteropError: the file does not exist, is corrupt, has another format, or contains anything but tensors.
    """
    path = local_path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InteropError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"version https://git-lfs")):
        what = "a pointer of Git LFS" if start.startswith(b"version") else "an HTML page"
        raise InteropError(f"{path}: {what}, not weights; download the file itself")
    if path.suffix == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise InteropError(f"{path}: not a complete .safetensors file ({error})") from error
        except (KeyError, AttributeError) as error:
            raise InteropError(f"{path}: contains a number type that NumPy does not support ({error})") from error
    if path.suffix in PTH:
        return _read_pth(path)
    raise InteropError(f"{path}: unsupported file type; use .safetensors, {', '.join(PTH)}, or a transformers folder")


def _read_folder(folder: Path) -> dict[str, Any]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = sorted({str(shard) for shard in json.loads(index.read_text())["weight_map"].values()})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InteropError(f"{index}: not an index of weights ({error})") from error
            if not all(Path(shard).suffix and Path(shard).name == shard for shard in shards):
                raise InteropError(f"{index}: not an index of weights: it names something else than files beside it")
            return {name: tensor for shard in shards for name, tensor in read(folder / shard).items()}
    if (folder / "checkpoints").is_dir():
        raise InteropError(
            f"{folder}: this is a run folder; export its weights first: "
            f"python -m rmae_jax.export --checkpoint={folder} --format=rmae --output=FILE.safetensors"
        )
    raise InteropError(f"{folder}: no {' or '.join(WEIGHTS)} in this folder; give the path of the weights file")


def _read_pth(path: Path) -> dict[str, Any]:
    torch = _torch(path)
    with open(path, "rb") as file:  # an error in opening the file does not mean that it is corrupt
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):  # of options, which MAE's checkpoints have
                found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            if not found:
                raise InteropError(f"{path}: not a complete PyTorch file") from error
            raise InteropError(
                f"{path}: contains more than tensors ({found[1]}), and reading it would run code from the file; "
                "if you trust it, save only its state dict"
            ) from error
        except CORRUPT_FILE_ERRORS as error:
            raise InteropError(f"{path}: not a complete PyTorch file ({_first_line(error)})") from error
    while isinstance(found, Mapping) and (inner := [k for k in WRAPPERS if isinstance(found.get(k), Mapping)]):
        found = found[inner[0]]
    if not isinstance(found, Mapping):
        raise InteropError(f"{path}: contains a {type(found).__name__}, not a state dict")
    if others := [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]:
        raise InteropError(f"{path}: not a state dict; entries that are not tensors: {join_names(others)}")
    return dict(found)


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise InteropError(f"{path}: this file type needs PyTorch: pip install -e .[torch]") from error
    return torch


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

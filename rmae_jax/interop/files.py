"""State dicts in files: .safetensors, PyTorch's .pth with nothing but tensors, and transformers' folders."""

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

from data_prep.storage.atomic_write import atomic_folder, atomic_write
from rmae_jax.interop import transformers
from rmae_jax.interop.convert import to_torch
from rmae_jax.interop.errors import InteropError, listed
from rmae_jax.interop.layout import StateDict
from rmae_jax.model import RMAE

PTH = (".pth", ".pt", ".bin")
WEIGHTS = "model.safetensors"  # in a folder of transformers
# What torch.load raises on a damaged file, the old kind included.
DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, AssertionError, OSError, struct.error, zipfile.BadZipFile)


def write(model: RMAE, path: str | Path, format: str = "rmae", *, overwrite: bool = False) -> StateDict:
    """Writes a model's weights; the file appears when it is complete.

    Args:
      model: of any objective.
      path: ends in .safetensors, or in .pth for plain tensors that `torch.load(weights_only=True)` reads (in "rmae"
        and "mae" as {"model": state_dict}, as MAE's code has it). For "transformers" a folder, which gets
        model.safetensors, config.json and preprocessor_config.json.
      format: see `to_torch`.
      overwrite: replace the file, or the files in the folder.

    Returns:
      What was written.

    Raises:
      InteropError: something is there, the path's ending is none of these, or `to_torch` refuses.
    """
    path = Path(path).absolute()
    if format == "transformers":
        if path.suffix in (".safetensors", *PTH) or path.is_file():
            raise InteropError(f"{path}: transformers reads a folder; give the name of one")
    elif path.suffix not in (".safetensors", ".pth") or path.is_dir():
        raise InteropError(f"{path}: give the name of a file that ends in .safetensors or .pth")
    if path.exists() and not overwrite:
        raise InteropError(f"{path} is there already; choose another name, or overwrite it (--overwrite)")
    torch = _torch(path) if path.suffix == ".pth" else None
    state = to_torch(model, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "transformers":
        with atomic_folder(path) as folder:
            (folder / WEIGHTS).write_bytes(safetensors.numpy.save(state, metadata={"format": "pt"}))
            transformers.write_configs(folder, model.config)
        return state
    with atomic_write(path) as out:
        if torch is None:
            # Not save_file: only the owner could read its files.
            out.write(safetensors.numpy.save(state, metadata={"format": "pt"}))
        else:
            tensors = {name: torch.from_numpy(value) for name, value in state.items()}
            torch.save({"model": tensors} if format in ("rmae", "mae") else tensors, out)
    return state


def read(path: str | Path) -> dict[str, Any]:
    """Reads the tensors of a file, without running anything that is in it.

    Args:
      path: a .safetensors file; a .pth, .pt or .bin file of PyTorch, whose tensors may lie below "model" or
        "state_dict"; or a folder of transformers.

    Returns:
      Arrays or tensors by name.

    Raises:
      InteropError: nothing is there, it is damaged or of another kind, or holds anything but tensors.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            if (path / "checkpoints").is_dir():
                raise InteropError(
                    f"{path}: a run's folder; export its weights first: "
                    f"python -m rmae_jax.export --checkpoint={path} --format=rmae --output=FILE.safetensors"
                )
            raise InteropError(f"{path}: no {WEIGHTS} in this folder; give the file of weights itself")
        path = path / WEIGHTS
    if not path.is_file():
        raise InteropError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise InteropError(f"{path}: not a complete .safetensors file ({error})") from error
        except (KeyError, AttributeError) as error:
            raise InteropError(f"{path}: holds numbers of a type that NumPy does not have ({error})") from error
    if path.suffix in PTH:
        return _read_pth(path)
    raise InteropError(f"{path}: weights are read from .safetensors, {', '.join(PTH)}, or a folder of transformers")


def _read_pth(path: Path) -> dict[str, Any]:
    torch = _torch(path)
    with open(path, "rb") as file:  # a file that may not be opened is not a damaged one
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            if not found:
                raise InteropError(f"{path}: not a complete file of PyTorch") from error
            raise InteropError(
                f"{path}: holds more than tensors ({found[1]}), and reading that would run code of the file; "
                "where you trust it, save its state dict alone"
            ) from error
        except DAMAGE as error:
            raise InteropError(f"{path}: not a complete file of PyTorch ({_first_line(error)})") from error
    for key in ("model", "state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise InteropError(f"{path}: holds a {type(found).__name__}, not a state dict")
    if others := [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]:
        raise InteropError(f"{path}: not a state dict; {listed(others)} are no tensors")
    return dict(found)


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise InteropError(f"{path}: files of this kind need PyTorch: pip install torch") from error
    return torch


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

"""Files of weights: what is written is whole, what is read is never run."""

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from rmae_jax import interop
from rmae_jax.interop.files import PTH


@pytest.mark.parametrize("format", ["rmae", "mae", "timm"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_comes_back_bit_by_bit(toy, tmp_path, format, suffix):
    path = tmp_path / "new" / f"weights{suffix}"
    written = interop.write(toy.model, path, format)
    found = interop.read(path)
    assert found.keys() == written.keys()
    assert all(np.array_equal(found[name], written[name]) for name in written)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half written is left
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode  # others may read it as usual


def test_pth_holds_plain_tensors_where_mae_expects_them(toy, tmp_path):
    for format in ("mae", "rmae", "timm"):
        interop.write(toy.model, tmp_path / f"{format}.pth", format)
        found = torch.load(tmp_path / f"{format}.pth", weights_only=True)
        state = found if format == "timm" else found["model"]
        assert all(type(value) is torch.Tensor for value in state.values())
        assert torch.equal(state["norm.bias"], torch.from_numpy(interop.to_torch(toy.model, format)["norm.bias"]))


def test_safetensors_says_that_it_is_pytorchs(toy, tmp_path):
    interop.write(toy.model, tmp_path / "weights.safetensors")
    with safetensors.safe_open(tmp_path / "weights.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_half_precision_files(toy, tmp_path):
    halves = {k: torch.from_numpy(v).to(torch.bfloat16) for k, v in interop.to_torch(toy.model).items()}
    safetensors.torch.save_file(halves, tmp_path / "half.safetensors")
    torch.save(halves, tmp_path / "half.pth")
    for name in ("half.safetensors", "half.pth"):
        found = interop.to_torch(interop.from_torch(interop.read(tmp_path / name), toy.config))
        assert np.array_equal(found["norm.weight"], halves["norm.weight"].float().numpy())


@pytest.mark.parametrize(
    ("format", "name", "message"),
    [
        ("mae", "weights", "ends in .safetensors or .pth"),
        ("mae", "weights.onnx", "ends in .safetensors or .pth"),
        ("transformers", "weights.safetensors", "format transformers writes a folder"),
        ("timm", "there.pth", "there.pth already exists; .*--overwrite"),
        ("transformers", "folder", "folder already exists"),
    ],
)
def test_outputs_that_are_refused(toy, tmp_path, format, name, message):
    (tmp_path / "there.pth").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    with pytest.raises(interop.InteropError, match=message):
        interop.write(toy.model, tmp_path / name, format)
    assert (tmp_path / "there.pth").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "there.pth"]


def test_overwriting_replaces_the_files_and_no_others(toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.safetensors").write_text("old")
    interop.write(toy.model, tmp_path, "transformers", overwrite=True)
    assert interop.read(tmp_path).keys() == interop.to_torch(toy.model, "transformers").keys()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    interop.write(toy.model, tmp_path / "model.safetensors", "timm", overwrite=True)
    assert interop.read(tmp_path).keys() == interop.to_torch(toy.model, "timm").keys()


def test_a_write_that_fails_leaves_what_was_there(toy, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_text("old")

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(OSError, match="No space left"):
        interop.write(toy.model, path, "mae", overwrite=True)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class Malicious:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", PTH)
@pytest.mark.parametrize("save", [torch.save, lambda found, path: path.write_bytes(pickle.dumps(found, 2))])
def test_reading_never_runs_what_is_in_a_file(tmp_path, suffix, save):
    path = tmp_path / f"weights{suffix}"
    save({"model": {"norm.bias": torch.zeros(3)}, "extra": Malicious(tmp_path / "harm")}, path)
    with pytest.raises(interop.InteropError, match=r"weights.*: contains more than tensors \([\w.]+\)"):
        interop.read(path)
    assert not (tmp_path / "harm").exists()


def test_a_training_checkpoint_of_mae_is_read(tmp_path):
    """With its optimiser and options; no other class than that of the options is."""
    path, layer = tmp_path / "checkpoint-799.pth", torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    others = {"optimizer": optimizer.state_dict(), "epoch": 799, "scaler": {"scale": 65536.0}}
    torch.save({"model": layer.state_dict(), "args": argparse.Namespace(lr=1.0, model="mae")} | others, path)
    assert np.array_equal(interop.read(path)["bias"], layer.bias.detach())
    torch.save({"model": layer.state_dict(), "args": Path("x")}, path)
    with pytest.raises(interop.InteropError, match=r"contains more than tensors \(pathlib.*save only its state dict"):
        interop.read(path)


@pytest.mark.parametrize(
    "keys", [["model"], ["state_dict"], ["module"], ["model_state"], ["model_state_dict"], ["model", "module"]]
)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_state_dicts_are_found_below_their_usual_names(tmp_path, keys, suffix):
    content = {"norm.bias": torch.ones(3)}
    for key in reversed(keys):
        content = {"epoch": 3, key: content}
    torch.save(content, tmp_path / f"model_4{suffix}")
    assert np.array_equal(interop.read(tmp_path / f"model_4{suffix}")["norm.bias"], np.ones(3))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folders_with_several_files_are_read(tmp_path, kind):
    """As transformers writes large models."""
    tensors = {name: torch.full((2,), float(number)) for number, name in enumerate(("a", "b", "c"))}
    whole = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
    stem, _, suffix = whole.rpartition(".")
    shards = {f"{stem}-00001-of-00002.{suffix}": ("a", "c"), f"{stem}-00002-of-00002.{suffix}": ("b",)}
    save = {"safetensors": safetensors.torch.save_file, "bin": torch.save}[kind]
    for file, names in shards.items():
        save({name: tensors[name] for name in names}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, names in shards.items() for name in names}}
    (tmp_path / f"{whole}.index.json").write_text(json.dumps(index))
    found = interop.read(tmp_path)
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)
    (tmp_path / f"{stem}-00002-of-00002.{suffix}").unlink()
    with pytest.raises(interop.InteropError, match=f"{stem}-00002-of-00002.{suffix}: no such file"):
        interop.read(tmp_path)
    for damaged in ("[]", *(json.dumps({"weight_map": {"a": shard}}) for shard in (None, ".", "../x.pth", "sub"))):
        (tmp_path / f"{whole}.index.json").write_text(damaged)
        with pytest.raises(interop.InteropError, match="index.json: not an index of weights"):
            interop.read(tmp_path)
    save(tensors, tmp_path / whole)
    assert interop.read(tmp_path).keys() == tensors.keys()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "an HTML page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS, not weights"),
    ],
)
def test_failed_downloads_are_named(tmp_path, suffix, content, what):
    (tmp_path / f"weights{suffix}").write_bytes(content)
    with pytest.raises(interop.InteropError, match=f"weights{suffix}: {what}; download the file itself"):
        interop.read(tmp_path / f"weights{suffix}")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_damaged_files_are_named(toy, tmp_path, suffix, damage):
    path = tmp_path / f"weights{suffix}"
    interop.write(toy.model, path, "mae")
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"not found"}[damage])
    with pytest.raises(interop.InteropError, match=f"weights{suffix}: not a complete"):
        interop.read(path)


def test_old_files_of_pytorch_are_read_and_named_wherever_they_end(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"norm.bias": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    assert np.array_equal(interop.read(path)["norm.bias"], np.ones(3))
    for end in range(len(whole)):  # an end within the name of a type looks like another type
        path.write_bytes(whole[:end])
        with pytest.raises(interop.InteropError, match="old.pth: (not a complete|contains more than tensors)"):
            interop.read(path)


def test_numbers_that_numpy_does_not_have(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, tmp_path / "small.safetensors")
    with pytest.raises(interop.InteropError, match="small.safetensors: contains a number type"):
        interop.read(tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pth", "missing.pth: no such file"),
        ("list.pth", "list.pth: contains a list, not a state dict"),
        ("numbers.pth", "numbers.pth: not a state dict; entries that are not tensors: epoch"),
        ("weights.npz", "weights.npz: unsupported file type; use .safetensors, .pth"),
        (
            "folder",
            "folder: no model.safetensors or pytorch_model.bin in this folder; give the path of the weights file",
        ),
        ("run", "run: this is a run folder; export its weights first: python -m rmae_jax.export --checkpoint=.*run"),
    ],
)
def test_files_that_hold_no_state_dict(tmp_path, name, message):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    (tmp_path / "weights.npz").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(interop.InteropError, match=message):
        interop.read(tmp_path / name)

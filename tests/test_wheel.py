"""What a user has after `pip install`: the commands and the recipes, in any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OWN = """
from configs import rmae_tiny


def get_config():
    config = rmae_tiny.get_config()
    config.batch_size = 0
    return config
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder to which the wheel's packages are installed, built from the working tree."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={folder}"]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    return folder


def test_a_wheel_has_all_packages_and_no_top_level_configs(installed):
    assert sorted(path.name for path in installed.iterdir()) == ["data_prep", "rmae_jax"]
    shipped = {path.relative_to(installed) for path in installed.rglob("*.py")}
    for folder, prefix in (("data_prep", ""), ("rmae_jax", ""), ("configs", "rmae_jax/recipes")):
        assert {Path(prefix, path) for path in Path(folder).rglob("*.py")} <= shipped
    assert (installed / "rmae_jax" / "demo" / "style.css").is_file()


@pytest.mark.parametrize(
    ("recipe", "files", "message"),
    [
        # Many projects have a package named configs.
        ("configs/ablations/neck_8.py", {"configs/__init__.py": ""}, "data.path is empty"),
        ("own.py", {"own.py": OWN}, "batch_size 0 is not divisible"),
        ("own.py", {"own.py": OWN, "configs/__init__.py": ""}, "cannot be loaded: cannot import name 'rmae_tiny'"),
        ("configs/own.py", {"own.py": OWN}, "configs/own.py: no such file"),
    ],
)
def test_recipes_are_found_in_any_folder(installed, tmp_path, recipe, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    process = subprocess.run(
        [sys.executable, "-m", "rmae_jax", f"--config={recipe}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "runs").exists()

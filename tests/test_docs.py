"""What the documents say exists."""

import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rmae_jax.model
from configs import rmae_b
from data_prep import flags
from docs import draw_data_flow
from rmae_jax.training.recipe import flat

DOCUMENTS = [
    "README.md",
    "docs/method.md",
    "docs/data.md",
    "docs/scaling.md",
    "docs/downstream.md",
    "docs/evaluation.md",
    "docs/performance.md",
    "CONTRIBUTING.md",
]


def quoted(document: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", Path(document).read_text())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_exist(document):
    paths = {name for name in quoted(document) if re.fullmatch(r"\w+/\w[\w/]*(/|\.py|\.md)", name)}
    paths |= set(re.findall(r"\]\(((?!http)[^)]+)\)", Path(document).read_text()))
    places = [Path("."), Path(document).parent]
    assert not [path for path in paths if not any((place / path).exists() for place in places)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_keys_are_those_of_the_recipes(document):
    text = Path(document).read_text()
    found = set(re.findall(r"`((?:model|data|mesh)\.\w+)", text)) | set(re.findall(r"--config\.([a-z_.]+)", text))
    assert found
    assert not found - flat(rmae_b.get_config().to_dict()).keys()


def test_classes_are_those_of_the_model():
    modules = [
        importlib.import_module(f"rmae_jax.model.{m.name}") for m in pkgutil.iter_modules(rmae_jax.model.__path__)
    ]
    names = {name for module in modules for name in vars(module)}
    classes = {name for name in quoted("docs/method.md") if re.fullmatch(r"([A-Z][a-z]+){2,}", name)}
    assert len(classes) > 5
    assert not classes - names


def test_the_table_of_ablations_says_what_the_files_change():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", Path("docs/method.md").read_text(), re.MULTILINE)
    table = {name: dict(re.findall(r"`([\w.]+)` = ([\w.]+)", keys)) for name, keys in rows}
    main, changes = flat(rmae_b.get_config().to_dict()), {}
    for path in Path("configs/ablations").glob("[!_]*.py"):
        config = flat(importlib.import_module(f"configs.ablations.{path.stem}").get_config().to_dict())
        changes[path.stem] = {key: str(value) for key, value in config.items() if value != main[key]}
    assert table == changes


def test_the_drawing_is_that_of_the_code(tmp_path):
    draw_data_flow.draw(tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn, Image.open("docs/pictures/data_flow.png") as committed:
        assert drawn.size == committed.size
        difference = np.asarray(drawn, float) - np.asarray(committed, float)
    assert np.abs(difference).mean() < 0.3  # a changed label is more; another font rasteriser less


def test_commands_of_data_prep_have_flags_that_exist(caplog):
    text = Path("docs/data.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^    python -m data_prep (.*?)(?:#.*)?$", text, re.MULTILINE)
    parsed = [flags.parse(shlex.split(command)) for command in commands]
    assert len(parsed) > 4
    of_beam = [how.beam_options for _, how in parsed if how.runner == "beam"]
    runners = [next(option for option in options if option.startswith("--runner=")) for options in of_beam]
    assert runners == [f"--runner={name}" for name in ("DirectRunner", "FlinkRunner", "DataflowRunner")]
    beam = pytest.importorskip("apache_beam.options.pipeline_options")
    caplog.clear()  # of what importing it says
    for options in of_beam:
        beam.PipelineOptions(options).get_all_options()
        assert not caplog.messages  # of options that Beam does not know
    beam.PipelineOptions([*options, "--machine_tipe=x"]).get_all_options()
    assert "--machine_tipe=x" in caplog.text

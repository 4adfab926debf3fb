"""The page, its command and its errors."""

import base64
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from toy import randomised

from rmae_jax.inspect.__main__ import main
from rmae_jax.inspect.html_page import Section, render
from rmae_jax.inspect.image_files import load_photographs
from rmae_jax.inspect.report import write_page
from rmae_jax.inspect.sections import PageSections
from rmae_jax.photographs import Photograph

TITLES = [
    "Reconstruction",
    "Region completion",
    "Attention",
    "PCA of features",
    "Patch similarity",
    "Region queries",
    "Nearest photographs",
    "Nearest patches",
]


def check(page: str, num_pictures: int) -> None:
    """One file, nothing from elsewhere, every picture whole and described."""
    assert not re.search(r"""(src|href)\s*=\s*(?!["']?(data:|#))""", page)
    assert not re.search(r"@import|url\(|<script|<link", page)
    pictures = re.findall(r'<img src="data:image/webp;base64,([^"]+)" width="\d+" height="\d+" alt="([^"]+)">', page)
    assert len(pictures) == num_pictures == page.count("<img")
    for content, alt in pictures:
        Image.open(io.BytesIO(base64.b64decode(content))).load()
        assert len(alt) > 10
    places = set(re.findall(r'id="([^"]+)"', page))
    assert all(place in places for place in re.findall(r'href="#([^"]+)"', page))


def made(model, photographs, **changes) -> list:
    options = {"mask_ratio": None, "seed": 0, "block": -1, "report": lambda done, total: None} | changes
    return PageSections(model, photographs, **options).sections()


def test_the_command_writes_one_file(run, folder, tmp_path, capsys):
    files = [str(path) for path in sorted(folder.iterdir())]
    arguments = [f"--checkpoint={run}", f"--images={files[0]}", *files[1:], f"--output={tmp_path}", "--image_size=48"]
    main(arguments)
    assert capsys.readouterr().out == f"{tmp_path}/index.html\n"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    page = (tmp_path / "index.html").read_text()
    check(page, 1 + 8 * 3)
    for said in ("What small has learned", "positions are interpolated", '"num_regions": 3', "own mean and contrast"):
        assert said in page.replace("&quot;", '"'), said
    with pytest.raises(SystemExit, match="index.html already exists; replace it with --overwrite"):
        main(arguments)


@pytest.mark.parametrize(
    ("objective", "omitted"), [("mae", {"Region completion", "Region queries"}), ("rae", {"Reconstruction"})]
)
def test_what_an_objective_does_not_have_is_left_out_with_a_line(photographs, objective, omitted):
    sections = made(randomised(objective=objective), photographs[1:2])
    assert [one.title for one in sections] == TITLES
    alone = {"Nearest photographs", "Nearest patches"}
    for section in sections:
        left_out = section.title in omitted | alone
        assert bool(section.pictures) != left_out and bool(section.omitted) == left_out
    check(render("x", [("a", "<b>")], "{}", sections), sum(len(one.pictures) for one in sections))


def test_a_photograph_without_regions_is_named(photographs):
    gray = Photograph("<gray>.png", np.full((32, 32, 3), 128, np.uint8), np.ones((3, 32, 32), np.uint16))
    sections = made(randomised(), [gray, photographs[1]])
    assert all(
        one.omitted == ["<gray>.png: no regions cover 1 to 90 % of the picture."] for one in (sections[1], sections[5])
    )
    page = render("x", [], "{}", sections)
    assert "&lt;gray&gt;.png" in page and "<gray>" not in page


@pytest.fixture
def odd(tmp_path):
    """Files and folders that are no photographs."""
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "many").mkdir()
    for number in range(37):
        (tmp_path / "many" / f"{number}.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ("text.png", [], "text.png: not an image, or of an unknown format"),
        ("none.png", [], "none.png: no such file or folder"),
        ("empty", [], "empty: no images in this folder"),
        ("many", [], "37 images; the limit is 36, select fewer"),
        ("", ["--image_size=30"], "image size 30 is not a multiple of the patch size 8; 32 is"),
        ("", ["--image_size=800"], "image size 800 may give 20000 patches; at most 4096"),
        ("", ["--mask_ratio=1"], "mask ratio 1.0 leaves 0 of 24 patches visible"),
        ("", ["--block=2"], "no block 2: the encoder has 2 blocks, 0 to 1 or, from the end, -2 to -1"),
        ("", ["--checkpoint=empty"], "empty is not a run folder: it has no config.json"),
    ],
)
def test_errors_are_one_line(run, folder, odd, monkeypatch, images, options, said):
    monkeypatch.chdir(odd)
    with pytest.raises(SystemExit) as raised:
        main([f"--checkpoint={run}", f"--images={images or folder}", "--output=out", *options])
    message = str(raised.value)
    assert message.startswith("error: ") and said in message and "\n" not in message
    assert not (odd / "out").exists()


@pytest.fixture
def no_drawing(monkeypatch):
    """Fails where the pictures would be drawn."""
    monkeypatch.setattr(PageSections, "sections", lambda self: pytest.fail("draws before it has checked the output"))


def test_an_output_that_cannot_be_written_is_reported_before_drawing(run, folder, odd, no_drawing):
    with pytest.raises(SystemExit, match=r"error: .*text.png/out cannot be written: Not a directory; give another"):
        main([f"--checkpoint={run}", f"--images={folder}", f"--output={odd / 'text.png' / 'out'}"])


def test_files_that_cannot_be_read_are_skipped_and_named(folder, odd, capsys):
    said = []
    files = [folder, odd / "text.png", odd / "many" / "0.png"]
    found = load_photographs(files, 32, 8, skipped=said.append)
    assert [one.name for one in found] == ["astronaut.png", "coffee.png", "rocket.png"]
    assert said == [f"{files[1]}: not an image, or of an unknown format; skipped", f"{files[2]}: empty file; skipped"]
    with pytest.raises(ValueError, match="none of the 2 files can be read"):
        load_photographs(files[1:], 32, 8, skipped=said.append)


def test_names_that_are_not_unicode_are_shown(run, folder, tmp_path, monkeypatch):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write((folder / "coffee.png").read_bytes())
    monkeypatch.setattr(PageSections, "sections", lambda self: [Section(self.photographs[0].name, ())])
    page = write_page(run, [os.fsdecode(name)], tmp_path / "out")
    assert "caf?.png" in page.read_text()


def test_a_wrong_flag_is_answered_without_jax():
    code = "import sys; from rmae_jax.inspect.__main__ import main\ntry: main(['--imagse=x'])\n"
    code += "finally: print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "False\n"
    assert "--checkpoint" in done.stderr

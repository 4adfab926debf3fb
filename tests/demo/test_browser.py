"""The page in a real browser, served by the command from a checkpoint that was just trained."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_fixtures import SMALL

from configs import rmae_tiny
from rmae_jax.training import pretrain

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
BRIEFLY = {"steps": 2, "warmup_steps": 1, "checkpoint_every": 2, "log_every": 1, "model.objective": "rae"}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium in PATH (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> Path:
    """A run's folder; the images are 4 x 4 patches."""
    config = rmae_tiny.get_config()
    config.update_from_flattened_dict(SMALL | BRIEFLY | {"data.path": str(dataset)})
    folder = tmp_path_factory.mktemp("trained") / "run"
    pretrain(config, folder)
    return folder


class Server:
    """The command, in a process of its own."""

    def __init__(self, run: Path, temporary: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self.temporary = temporary
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rmae_jax.demo", f"--checkpoint={run}", f"--port={port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A proxy that is not there: whoever asks another machine fails.
            env=os.environ | {"TMPDIR": str(temporary), "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""},
        )
        line = self.process.stdout.readline()
        assert line == f"{self.url}  (press Ctrl-C to stop)\n", line + self.process.stdout.read()

    def stop(self) -> tuple[int, str]:
        """Exit status and the rest of the output after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    server = Server(run, tmp_path_factory.mktemp("temporary"))
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The page, opened; nothing on it may fail, and nothing may ask another machine."""
    page, requests, errors = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda websocket: requests.append(websocket.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    says(page, "0 inside, 0 outside. Mark at least one patch inside")
    yield page
    page.close()
    assert len(requests) > 10
    assert not [url for url in requests if not url.startswith((server.url, "data:", "blob:"))]
    assert not errors


def says(page, text: str) -> None:
    """Waits for the line below the photograph."""
    page.locator(".status", has_text=text).wait_for(timeout=20_000)


def patch(page, number: int):
    return page.locator(f'button[data-patch="{number}"]')


def picture(page, title: str) -> str:
    return page.get_by_role("img", name=title).get_attribute("src")


def test_marks_complete_a_region(page):
    titles = ("Completed region", "Region found by colour", "What the model sees")
    before = [picture(page, title) for title in titles]
    patch(page, 5).click()
    says(page, "1 inside, 0 outside. Completed in")
    assert re.search(r"IoU [01]\.\d\d with the region found by colour", page.locator(".status").inner_text())
    assert all(picture(page, title) != old for title, old in zip(titles, before, strict=True))
    assert patch(page, 5).get_attribute("aria-label") == "row 2, column 2: inside"

    patch(page, 6).click(button="right")
    says(page, "1 inside, 1 outside.")
    page.get_by_label("outside", exact=True).check()
    patch(page, 10).click()
    says(page, "1 inside, 2 outside.")
    assert patch(page, 10).get_attribute("aria-label") == "row 3, column 3: outside"
    patch(page, 10).click()
    says(page, "1 inside, 1 outside.")
    assert patch(page, 10).get_attribute("aria-pressed") == "false"

    completed = picture(page, "Completed region")
    page.get_by_label("number input for Mask ratio").fill("0")
    page.get_by_text("100% of the photograph").wait_for()
    assert picture(page, "Completed region") != completed
    page.get_by_role("button", name="Clear marks").click()
    says(page, "0 inside, 0 outside.")


def test_quick_clicks_are_all_taken(page):
    for number in (0, 3, 5, 6, 9, 10):
        patch(page, number).click()
    says(page, "6 inside, 0 outside.")


def test_the_keyboard_is_enough(page):
    patch(page, 0).focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    says(page, "1 inside, 0 outside.")
    assert patch(page, 5).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowLeft")  # the focus has stayed where it was
    page.keyboard.press("Space")
    says(page, "2 inside, 0 outside.")
    assert page.evaluate("document.activeElement.dataset.patch") == "4"


def test_photographs_are_chosen_and_uploaded(page, tmp_path):
    def board() -> str:
        return page.locator(".board").get_attribute("style")

    first = board()
    page.get_by_label("Photograph", exact=True).click()
    page.get_by_role("option", name="coffee").click()
    page.wait_for_function("before => document.querySelector('.board').getAttribute('style') !== before", arg=first)
    patch(page, 5).click()
    says(page, "1 inside, 0 outside.")
    chosen = board()

    text = tmp_path / "text.png"
    text.write_text("This is no picture.")
    page.locator("input[type=file]").set_input_files(text)
    page.get_by_text("This file cannot be read: not an image, or of an unknown format.").wait_for()
    assert board() == chosen
    patch(page, 6).click()
    says(page, "2 inside, 0 outside.")

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)).save(tmp_path / "gray.png")
    page.locator("input[type=file]").set_input_files(tmp_path / "gray.png")
    says(page, "0 inside, 0 outside.")
    assert board() != chosen
    assert page.get_by_label("Photograph", exact=True).input_value() == ""


def test_large_files_are_refused(page, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(20 * 2**20 + 1))
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_text(re.compile("maximum (allowed|file) size", re.IGNORECASE)).first.wait_for()
    patch(page, 6).click()
    says(page, "1 inside, 0 outside.")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = patch(page, 0).bounding_box()
    assert min(box["width"], box["height"]) > 44, "large enough for a finger"
    assert abs(box["width"] - box["height"]) < 2


def test_files_of_the_machine_are_not_served(server):
    for path in ("setup.cfg", "/etc/hostname"):
        with pytest.raises(urllib.error.HTTPError, match="40[34]"):
            urllib.request.urlopen(f"{server.url}gradio_api/file={path}")


def test_ctrl_c_ends_it_and_leaves_nothing(server):
    """The last test: the others need the server."""
    assert list(server.temporary.glob("rmae-jax-demo-*"))
    assert server.stop() == (130, "\nstopped\n")
    assert not list(server.temporary.glob("rmae-jax-demo-*"))

"""The demo's web page: its elements, and its response to marks, settings and uploads."""

import dataclasses
import time
from functools import lru_cache
from importlib import resources
from pathlib import Path

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from data_prep.images import SUFFIXES, BadImage, load
from data_prep.shipped_photographs import PHOTOGRAPHS
from rmae_jax.demo import drawing
from rmae_jax.demo.board import board
from rmae_jax.demo.segmenter import Click, Segmenter, region_under, toggle
from rmae_jax.photographs import Photograph, view
from rmae_jax.segmentation_scores import iou

FIRST = "astronaut"
SHIPPED = {Path(file).stem.replace("_", " "): file for file in PHOTOGRAPHS}  # file name by menu entry
SCALES = (500, 1000, 1500)  # of the regions found by colour
MAX_PIXELS = 50_000_000  # of an upload
LARGEST_UPLOAD = "20mb"
HERE = Path(__file__).parent
SYSTEM_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
INTRODUCTION = """<h1>Complete a region from a few patches</h1>
<p>Mark patches of one object: click patches inside it; for patches outside it, right-click, or choose “outside” and
click. Click again to remove a mark. The model sees your marks and a random part of the photograph, and predicts for
every pixel how likely it is to belong to the same object.</p>"""


@dataclasses.dataclass(frozen=True)
class VisitorState:
    """The state of one visitor: the photograph and the marked patches."""

    photograph: Photograph
    clicks: tuple[Click, ...] = ()


@lru_cache(maxsize=len(SHIPPED))
def shipped(name: str, segmenter: Segmenter) -> Photograph:
    """Reads one of the photographs that scikit-image ships, by its name in SHIPPED."""
    return read_photograph((resources.files("skimage.data") / SHIPPED[name]).read_bytes(), segmenter, name)


def read_photograph(data: bytes, segmenter: Segmenter, name: str = "upload") -> Photograph:
    """Reads an image file and crops its central square to the model's size.

    Raises:
      BadImage: the bytes are not an image, are corrupt, or the image has more than MAX_PIXELS pixels.
    """
    return view(name, load(data, MAX_PIXELS)[1], segmenter.size, segmenter.patch_size, longest_aspect=1)


def build(segmenter: Segmenter) -> gr.Blocks:
    """Builds the page for a model."""
    first = VisitorState(shipped(FIRST, segmenter))
    with gr.Blocks(title="R-MAE: complete a region", analytics_enabled=False, delete_cache=(600, 600)) as page:
        work = gr.State(first)
        gr.HTML(INTRODUCTION, elem_classes="demo")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    names = gr.Dropdown(list(SHIPPED), value=FIRST, label="Photograph", min_width=150)
                    mode = gr.Radio(
                        ["inside", "outside"], value="inside", label="A click marks a patch as", min_width=150
                    )
                patches = gr.HTML(js_on_load=(HERE / "board.js").read_text(), elem_classes="demo")
                status = gr.HTML(elem_classes="demo")
                with gr.Row():
                    clear = gr.Button("Clear marks", min_width=120)
                    upload = gr.UploadButton(
                        "Upload a photograph", type="binary", file_types=sorted(SUFFIXES), min_width=120
                    )
            with gr.Column(scale=6, min_width=320):
                with gr.Row(elem_classes="pair"):
                    completed, found = (gr.HTML(elem_classes="demo") for _ in range(2))
                with gr.Row(elem_classes="pair"):
                    seen = gr.HTML(elem_classes="demo")
                    with gr.Column(min_width=240):
                        ratio = segmenter.model.config.mask_ratio
                        hidden = gr.Slider(0, 0.9, value=ratio, step=0.05, label="Mask ratio")
                        seed = gr.Slider(0, 99, value=0, step=1, label="Seed")
                        scale = gr.Radio(SCALES, value=SCALES[0], label="Scale of the regions found by colour")

        settings, views = [hidden, seed, scale], [patches, status, completed, found, seen]

        def update(work: VisitorState, hidden: float, seed: int, scale: int) -> tuple[str, ...]:
            return render(segmenter, work, hidden, seed, scale)

        def mark(work: VisitorState, mode: str, event: gr.EventData, *settings: float) -> tuple:
            inside = mode == "inside" and not event.outside
            clicks = toggle(work.clicks, int(event.patch), inside, segmenter.num_patches)
            work = dataclasses.replace(work, clicks=clicks)
            return work, *update(work, *settings)

        def choose(name: str, *settings: float) -> tuple:
            work = VisitorState(shipped(name, segmenter))
            return work, *update(work, *settings)

        def read(data: bytes, *settings: float) -> tuple:
            try:
                work = VisitorState(read_photograph(data, segmenter))
            except BadImage as error:
                gr.Warning(f"This file cannot be read: {error}.", duration=10)
                return (gr.skip(),) * (2 + len(views))
            return work, None, *update(work, *settings)

        def clear_marks(work: VisitorState, *settings: float) -> tuple:
            work = VisitorState(work.photograph)
            return work, *update(work, *settings)

        # Events run one at a time. Clicks that arrive meanwhile are queued, so none is lost.
        every = {"show_progress": "hidden", "api_visibility": "private", "concurrency_id": "model"}
        patches.mark(mark, [work, mode, *settings], [work, *views], trigger_mode="multiple", **every)
        names.input(choose, [names, *settings], [work, *views], **every)
        upload.upload(read, [upload, *settings], [work, names, *views], **every)
        clear.click(clear_marks, [work, *settings], [work, *views], **every)
        for setting in settings:
            setting.change(update, [work, *settings], views, trigger_mode="always_last", **every)
        page.load(update, [work, *settings], views, **every)
    return page


def render(segmenter: Segmenter, work: VisitorState, hidden: float, seed: int, scale: int) -> tuple[str, ...]:
    """Returns the HTML of the board, of the status line below it, and of the three pictures."""
    image, clicks = work.photograph.image, work.clicks
    start = time.perf_counter()
    made = segmenter.complete(image, clicks, float(hidden), int(seed))
    seconds = time.perf_counter() - start
    inside = [click.patch for click in clicks if click.inside]
    line = f"{len(inside)} inside, {len(clicks) - len(inside)} outside."
    if inside:
        region = region_under(work.photograph.layers[SCALES.index(scale)], inside[-1], segmenter.patch_size)
        overlap = f"IoU {iou(made.probability > 0.5, region):.2f}"
        completed = drawing.region(image, made.probability, drawing.BLUE)
        found = drawing.region(image, region, drawing.GREEN)
        line += f" Completed in {1000 * seconds:.0f} ms; {overlap} with the region found by colour."
        if len(inside) == len(clicks):
            line += " Now mark patches around it as outside; without any, the model predicts that all are inside."
        about = (
            "Stronger blue is more probable; the outline is at one half.",
            f"<strong>{overlap}</strong> with the completed region. This is the Felzenszwalb-Huttenlocher region under "
            "the last patch marked as inside.",
        )
    else:
        completed = found = drawing.faded(image)
        line += " Mark at least one patch inside an object."
        about = ("No patch is marked as inside.",) * 2
    seen = drawing.seen(image, made.hidden, clicks, segmenter.patch_size)
    return (
        board(drawing.data_uri(drawing.photograph(image)), segmenter.side, clicks),
        f'<p class="status" role="status">{line}</p>',
        _figure("Completed region", completed, about[0]),
        _figure("Region found by colour", found, about[1]),
        _figure("What the model sees", seen, f"{1 - made.hidden.mean():.0%} of the photograph, and your marks."),
    )


def _figure(title: str, picture: UInt8[np.ndarray, "side side 3"], caption: str) -> str:
    return (
        f'<figure><h2>{title}</h2><img src="{drawing.data_uri(picture)}" alt="{title}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serves the page in background threads; returns its address.

    Raises:
      OSError: the port is in use, or the host is not an address of this machine.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        footer_links=[],
        run_history=False,
        max_file_size=LARGEST_UPLOAD,
        allowed_paths=[],
        state_session_capacity=100,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(**SYSTEM_FONTS),
        css_paths=HERE / "style.css",
    )
    return address

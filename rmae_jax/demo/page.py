"""The page: what is on it and what happens when something is marked, chosen or uploaded."""

import dataclasses
import time
from pathlib import Path

import gradio as gr

from data_prep.images import SUFFIXES, BadImage
from rmae_jax.demo import drawing, photographs
from rmae_jax.demo.board import board
from rmae_jax.demo.photographs import SCALES, Photograph
from rmae_jax.demo.segmentation import Click, Completion, Segmenter, iou, region_under, toggle

FIRST = "astronaut"
LARGEST_UPLOAD = "20mb"
HERE = Path(__file__).parent
SYSTEM_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
INTRODUCTION = """<h1>Complete a region from a few patches</h1>
<p>Mark patches of one thing: click inside of it, right-click outside of it. The model sees your marks and a random part
of the photograph's patches, and says of every pixel how probable it is that it belongs to the same thing.</p>"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one visitor is at."""

    photograph: Photograph
    clicks: tuple[Click, ...] = ()


def build(segmenter: Segmenter) -> gr.Blocks:
    """The page of a model; compiles what the first click needs."""
    config = segmenter.model.config
    first = Work(photographs.shipped(FIRST, segmenter.size))
    segmenter.complete(first.photograph.image, [Click(0, True)], config.mask_ratio, 0)
    with gr.Blocks(title="R-MAE: complete a region", analytics_enabled=False, delete_cache=(600, 600)) as page:
        work = gr.State(first)
        gr.HTML(INTRODUCTION, elem_classes="demo")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                with gr.Row():
                    names = gr.Dropdown(list(photographs.NAMES), value=FIRST, label="Photograph", min_width=150)
                    mode = gr.Radio(["inside", "outside"], value="inside", label="A click marks", min_width=150)
                patches = gr.HTML(js_on_load=(HERE / "board.js").read_text(), elem_classes="demo")
                with gr.Row():
                    clear = gr.Button("Clear marks", min_width=120)
                    upload = gr.UploadButton(
                        "Upload a photograph", type="binary", file_types=sorted(SUFFIXES), min_width=120
                    )
                status = gr.HTML(elem_classes="demo")
            with gr.Column(scale=6, min_width=320):
                pictures = gr.HTML(elem_classes="demo")
                with gr.Row():
                    hidden = gr.Slider(
                        0, 0.9, value=config.mask_ratio, step=0.05, label="Hidden share of the photograph", min_width=200
                    )
                    seed = gr.Slider(0, 99, value=0, step=1, label="Which patches are hidden (seed)", min_width=200)
                scale = gr.Radio(
                    [(f"{scale} px", scale) for scale in SCALES], value=SCALES[0], label="Scale of the colour regions"
                )

        settings, views = [hidden, seed, scale], [patches, pictures, status]

        def view(work: Work, hidden: float, seed: int, scale: int) -> tuple[str, str, str]:
            return views_of(segmenter, work, hidden, seed, scale)

        def mark(work: Work, mode: str, event: gr.EventData, *settings: float) -> tuple:
            inside = mode == "inside" and event.outside is not True
            clicks = toggle(work.clicks, int(event.patch), inside, segmenter.num_patches)
            work = dataclasses.replace(work, clicks=clicks)
            return work, *view(work, *settings)

        def choose(name: str, *settings: float) -> tuple:
            work = Work(photographs.shipped(name, segmenter.size))
            return work, *view(work, *settings)

        def read(data: bytes, *settings: float) -> tuple:
            try:
                work = Work(photographs.read(data, segmenter.size))
            except BadImage as error:
                gr.Warning(f"This file cannot be shown: {error}.", duration=10)
                return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return work, None, *view(work, *settings)

        def forget(work: Work, *settings: float) -> tuple:
            work = Work(work.photograph)
            return work, *view(work, *settings)

        # Clicks that come while one is answered wait for their turn: none is lost.
        every = {"show_progress": "hidden", "api_visibility": "private", "concurrency_id": "model"}
        patches.mark(mark, [work, mode, *settings], [work, *views], trigger_mode="multiple", **every)
        names.input(choose, [names, *settings], [work, *views], **every)
        upload.upload(read, [upload, *settings], [work, names, *views], **every)
        clear.click(forget, [work, *settings], [work, *views], **every)
        for setting in settings:
            setting.change(view, [work, *settings], views, trigger_mode="always_last", **every)
        page.load(view, [work, *settings], views, **every)
    return page


def views_of(segmenter: Segmenter, work: Work, hidden: float, seed: int, scale: int) -> tuple[str, str, str]:
    """The board, the pictures and the line below the board."""
    start = time.perf_counter()
    completed = segmenter.complete(work.photograph.image, work.clicks, hidden, seed)
    seconds = time.perf_counter() - start
    address = drawing.data_uri(drawing.photograph(work.photograph.image))
    inside = sum(click.inside for click in work.clicks)
    line = f"{inside} inside, {len(work.clicks) - inside} outside."
    if completed.probability is None:
        line += " Mark at least one patch inside of a thing."
    else:
        line += f" Completed in {1000 * seconds:.0f} ms."
    line = f'<p class="status" role="status">{line}</p>'
    return board(address, segmenter.side, work.clicks), _pictures(segmenter, work, completed, scale), line


def _pictures(segmenter: Segmenter, work: Work, completed: Completion, scale: int) -> str:
    image = work.photograph.image
    seen = _figure(
        "What the model sees",
        drawing.seen(image, completed.hidden),
        f"{1 - completed.hidden.mean():.0%} of the photograph, and the marks.",
    )
    titles = "Completed region", "Region found by colours"
    if completed.probability is None:
        nothing = drawing.faded(image)
        return _row(*(_figure(title, nothing, "Nothing is marked as inside yet.") for title in titles), seen)
    last = [click.patch for click in work.clicks if click.inside][-1]
    found = region_under(work.photograph.layers[SCALES.index(scale)], last, segmenter.patch_size)
    overlap = iou(completed.probability > 0.5, found)
    return _row(
        _figure(
            titles[0],
            drawing.region(image, completed.probability, drawing.BLUE),
            "The bluer, the more probable; the line is at 0.5.",
        ),
        _figure(
            titles[1],
            drawing.region(image, found, drawing.GREEN),
            f"Felzenszwalb-Huttenlocher, under the last patch marked as inside. <strong>IoU {overlap:.2f}</strong> with "
            "the completed region.",
        ),
        seen,
    )


def _row(*figures: str) -> str:
    return f'<div class="pictures">{"".join(figures)}</div>'


def _figure(title: str, picture, caption: str) -> str:
    return (
        f'<figure><h2>{title}</h2><img src="{drawing.data_uri(picture)}" alt="{title}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serves the page in threads of its own; returns its address.

    Raises:
      OSError: the port is taken, or the host is none of this machine's.
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

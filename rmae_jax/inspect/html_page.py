"""A page of pictures as one self-contained HTML file."""

import base64
import dataclasses
import html
from collections.abc import Sequence

from matplotlib.figure import Figure

from rmae_jax.inspect.figures import webp

PIXELS_PER_INCH = 96  # as CSS defines it
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1d1d1f; --soft: #5f5f66; --line: #d8d8dd; --link: #0b57b0 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #000; --ink: #ececf0; --soft: #a3a3ab; --line: #34343a; --link: #82b7ff }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 74rem; padding: 1rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
a { color: var(--link) }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 0 0 .4rem }
p { margin: .4rem 0; max-width: 46rem }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; margin: 1rem 0 0; padding: 0 }
nav a { display: inline-block; padding: .25rem 0 }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1.2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0 }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; margin-top: .8rem }
figure { margin: 0; min-width: 0; max-width: 100% }
img { display: block; width: 100%; height: auto }
figcaption { color: var(--soft); font-size: .875rem; padding-left: 3px; overflow-wrap: anywhere }
.absent { color: var(--soft); font-style: italic }
summary { cursor: pointer; padding: .3rem 0 }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.4 }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr } dt { margin-top: .3rem } }
@media print { nav { display: none } figure { break-inside: avoid } }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes:
      figure: the figure to show.
      caption: text above the figure.
      alt: description for readers who cannot see the figure.
    """

    figure: Figure
    caption: str
    alt: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
      title: the heading, also used as the target of links.
      text: paragraphs that explain the pictures.
      pictures: the pictures, possibly none.
      absent: lines that say what is omitted and why.
    """

    title: str
    text: Sequence[str]
    pictures: Sequence[Picture] = ()
    omitted: Sequence[str] = ()


def render(title: str, facts: Sequence[tuple[str, str]], recipe: str, sections: Sequence[Section]) -> str:
    """Renders a page as HTML.

    Args:
      title: the page's title.
      facts: names and values for the head of the page.
      recipe: the run's recipe, as JSON.
      sections: the sections, in order.
    """
    links = "".join(f'<li><a href="#{_anchor(one)}">{html.escape(one.title)}</a></li>' for one in sections)
    terms = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<dl>{terms}</dl>
<details><summary>Recipe</summary><pre tabindex="0" aria-label="Recipe as JSON">{html.escape(recipe)}</pre>
</details>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{"".join(map(_section, sections))}</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    paragraphs = "".join(f"<p>{html.escape(text)}</p>\n" for text in section.text)
    omitted = "".join(f'<p class="absent">{html.escape(line)}</p>\n' for line in section.omitted)
    pictures = "".join(map(_picture, section.pictures))
    place, title = _anchor(section), html.escape(section.title)
    return (
        f'<section id="{place}" aria-labelledby="{place}-title">\n<h2 id="{place}-title">{title}</h2>\n'
        f'{paragraphs}{omitted}<div class="pictures">\n{pictures}</div>\n</section>\n'
    )


def _picture(picture: Picture) -> str:
    width, height = (round(inches * PIXELS_PER_INCH) for inches in picture.figure.get_size_inches())
    content = base64.b64encode(webp(picture.figure)).decode()
    return (
        f'<figure style="width: {width}px"><figcaption>{html.escape(picture.caption)}</figcaption>'
        f'<img src="data:image/webp;base64,{content}" width="{width}" '
        f'height="{height}" alt="{html.escape(picture.alt)}"></figure>\n'
    )


def _anchor(section: Section) -> str:
    return section.title.lower().replace(" ", "-")

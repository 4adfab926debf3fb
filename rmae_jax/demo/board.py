"""The photograph as a grid of patches, each a button for mouse, touch and keyboard."""

from collections.abc import Sequence

from rmae_jax.demo.segmenter import Click


def board(picture: str, side: int, clicks: Sequence[Click]) -> str:
    """Returns the HTML of a square picture, divided into side x side patches.

    Args:
      picture: the picture's URL.
      side: number of patches in a row and in a column.
      clicks: marked patches, each once; the newest last.
    """
    marked = {click.patch: "inside" if click.inside else "outside" for click in clicks}
    reached_by_tab = clicks[-1].patch if clicks else 0
    buttons = []
    for patch in range(side * side):
        mark = marked.get(patch, "")
        place = f"row {patch // side + 1}, column {patch % side + 1}"
        buttons.append(
            f'<button type="button" data-patch="{patch}" class="{mark}" tabindex="{-(patch != reached_by_tab)}"'
            f' aria-label="{place}{mark and ": "}{mark}" aria-pressed="{str(bool(mark)).lower()}">'
            f"{ {'inside': '+', 'outside': '−', '': ''}[mark] }</button>"
        )
    return (
        f'<div class="board" role="group" aria-label="The photograph in {side} by {side} patches; use the arrow keys"'
        f' style="--side: {side}; background-image: url({picture})">'
        f"{''.join(buttons)}</div>"
    )

"""Markdown table that compares the estimates for several topologies; it is readable as plain text, too."""

from collections.abc import Callable, Sequence

GIB = 2**30


def table(rows: Sequence[dict]) -> str:
    """Formats rows of `report.numbers` as a table with one column for each, in order, and their advice below."""
    lines = [["", *(row["topology"] for row in rows)]]
    for name, cell in _CELLS.items():
        cells = [cell(row) for row in rows]
        if any(cells):
            lines.append([name, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(rows) + 1)]
    lines.insert(1, ["-" * width for width in widths])
    text = "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )
    advice = [f"- {row['topology']}, remat {row['remat']}: {line}\n" for row in rows for line in row["advice"]]
    return text + ("\nWhat would help:\n\n" + "".join(advice) if advice else "")


def _gib(size: int | float) -> str:
    return f"{size / GIB:.2f}" if size < 10 * GIB else f"{size / GIB:.1f}"


def _needed(row: dict) -> str:
    if row["fits"]:
        return f"{_gib(row['memory']['peak'])} of {row['hbm'] / GIB:.0f}"
    return f"DOES NOT FIT: {_gib(row['needed'])} of {_gib(row['available'])}"


def _fitting(cell: Callable[[dict], str]) -> Callable[[dict], str]:
    return lambda row: cell(row) if row["fits"] else ""


def _collectives(row: dict) -> str:
    found = row["collectives"]
    return ", ".join(f"{x['count']} {kind}: {x['bytes'] / 1e6:.0f} MB" for kind, x in found.items()) or "none"


def _milliseconds(key: str) -> Callable[[dict], str]:
    def cell(row: dict) -> str:
        return "" if row["seconds"][key] is None else f"{1000 * row['seconds'][key]:.1f}"

    return _fitting(cell)


def _rate(key: str, form: str, scale: int | float = 1, *, time: bool = False) -> Callable[[dict], str]:
    """Returns the cell of a number derived from a step's time; `time`: whether it grows with that time."""

    def cell(row: dict) -> str:
        bound = ("at least " if time else "at most ") if row["at_most"] else ""
        return bound + form.format(row[key] * scale)

    return _fitting(cell)


def _cycles(row: dict) -> str:
    return "not given" if row["cycles"] is None else f"{row['cycles'] / 1e6:.1f}"


_CELLS = {
    "chips, hosts": lambda row: f"{row['chips']}, {row['hosts']}",
    "mesh (data x fsdp)": lambda row: " x ".join(map(str, row["mesh"])),
    "batch, per chip": lambda row: f"{row['batch_size']}, {row['batch_per_chip']}",
    "remat, accumulation": lambda row: f"{row['remat']}, {row['accumulation_steps']}",
    "memory per chip, GiB": _needed,
    "- parameters": lambda row: _gib(row["params"]),
    "- optimiser": lambda row: _gib(row["optimizer"]),
    "- temporaries": _fitting(lambda row: _gib(row["memory"]["temporaries"])),
    "products per chip, TFLOP": lambda row: f"{row['flops'] / 1e12:.2f}",
    "memory traffic per chip, GB": _fitting(lambda row: f"{row['traffic'] / 1e9:.1f}"),
    "collectives": _fitting(_collectives),
    "million cycles": _fitting(_cycles),
    "- calls of kernels, not in them": _fitting(lambda row: str(row["kernels"])),
    "step, ms: computation": _milliseconds("compute"),
    "- links, at least": _milliseconds("links"),
    "- both": _milliseconds("step"),
    "- roofline": _milliseconds("bound"),
    "images/s": _rate("images_per_second", "{:,.0f}"),
    "images/s and chip": _rate("images_per_second_and_chip", "{:,.0f}"),
    "model FLOPs utilisation": _rate("mfu", "{:.1f} %", 100),
    "images/s and host": _rate("images_per_second_and_host", "{:,.0f}"),
    "- MB/s to its devices": _rate("bytes_per_second_and_host", "{:,.0f}", 1e-6),
    "- cores for input": _rate("input_cores", "{:.1f}"),
    "steps": lambda row: f"{row['steps']:,}",
    "days": _rate("days", "{:.2f}", time=True),
    "chip-hours": _rate("chip_hours", "{:,.0f}", time=True),
}

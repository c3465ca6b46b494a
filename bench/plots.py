"""Plots of a results file, as SVG; a results file is all that it needs.

    python -m bench.plots var/bench/results.jsonl --to var/bench/plots

One picture for each curve that the file has, and `overview.svg` with a panel of each. Each point is the median of its
rounds' valid runs, with a bar from the least to the greatest where there are several.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from bench.program import say

Line = Mapping[str, Any]

LABELS: Final = {
    "alo": "ours",
    "sio-redis": "the plan (Socket.IO, Redis, BullMQ)",
    "ws": "lean Node (ws)",
    "wsbatch": "lean Node, batched",
    "pysocketio": "python-socketio, uvloop",
}
"""The servers, in the order of their colours."""

COLOURS: Final = ("#0b5fff", "#d1495b", "#7d8597", "#3a3f47", "#e09f3e", "#2a9d8f")


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    :ivar x: the field of a line that is its place on the x axis.
    :ivar what: of curves with several kinds of operations.
    :ivar scale: factor of the values.
    """

    curve: str
    metric: str
    title: str
    x_label: str
    y_label: str
    what: str | None = None
    x: str = "x"
    scale: float = 1.0
    is_log_y: bool = False


_COST = "CPU for a send (us)"
_RATE = "sends a second, up to 90 % of capacity"
_PAGE_COST = "CPU of all processes (us)"
PICTURES: Final[Mapping[str, tuple[Panel, ...]]] = {
    "latency": (
        Panel("latency", "ack_p50_ms", "Ack, p50", _RATE, "ms", x="rate", is_log_y=True),
        Panel("latency", "ack_p99_ms", "Ack, p99", _RATE, "ms", x="rate", is_log_y=True),
        Panel("latency", "delivery_p99_ms", "Delivery, p99", _RATE, "ms", x="rate", is_log_y=True),
    ),
    "connections": (
        Panel("connections", "total_us_per_send", "Cost of a send", "connections", _COST),
        Panel("connections", "bytes_per_connection", "Memory under load", "connections", "KiB each", scale=1 / 1024),
    ),
    "groups": (
        Panel("groups", "total_us_per_send", "Cost of a send", "participants", _COST, is_log_y=True),
        Panel("groups", "total_us_per_delivery", "Cost of a delivery", "participants", "us", is_log_y=True),
    ),
    "nodes": (
        Panel("nodes", "total_us_per_send", "Cost of a send, with idle nodes", "nodes", _COST),
        Panel("nodes", "delivery_p99_ms", "Delivery to another node, p99", "nodes", "ms", is_log_y=True),
    ),
    "stored": tuple(
        Panel("stored", "total_us", title, "stored messages", _PAGE_COST, what)
        for what, title in (("list", "List of 10"), ("history", "Page of history"), ("send", "Send"))
    ),
    "conversations": tuple(
        Panel("conversations", "total_us", title, "conversations of each user", _PAGE_COST, what)
        for what, title in (("list", "List of the newest 50"), ("history", "Page of history"), ("send", "Send"))
    ),
}
"""The panels of each picture, by the curve's name."""

OVERVIEW: Final = (
    PICTURES["latency"][1],
    PICTURES["connections"][0],
    PICTURES["groups"][1],
    PICTURES["nodes"][0],
    PICTURES["stored"][0],
    PICTURES["conversations"][0],
)


class Value(NamedTuple):
    """One point: median, least and greatest of the rounds."""

    x: float
    middle: float
    least: float
    most: float


def series(lines: Iterable[Line], panel: Panel) -> dict[str, list[Value]]:
    """The points of each server, by x; without invalid runs and without servers that have no point. The runs of a point
    are those with the same `x`, whatever their place on the axis."""
    found: dict[str, dict[float, list[tuple[float, float]]]] = {}
    for line in lines:
        is_of_panel = line.get("kind") == "point" and line["curve"] == panel.curve and line.get("what") == panel.what
        if is_of_panel and line["valid"] and line.get(panel.metric) is not None:
            runs = found.setdefault(line["server"], {}).setdefault(line["x"], [])
            runs.append((line[panel.x], line[panel.metric] * panel.scale))
    known = sorted(found, key=lambda server: [*LABELS, server].index(server))
    return {server: [_value(runs) for _, runs in sorted(found[server].items())] for server in known}


def _value(runs: Sequence[tuple[float, float]]) -> Value:
    places, values = zip(*runs, strict=True)
    return Value(median(places), median(values), min(values), max(values))


def pictures(lines: Sequence[Line]) -> dict[str, tuple[Panel, ...]]:
    """The panels of each picture that these lines allow, by the picture's name."""
    drawable = {name: tuple(panel for panel in panels if series(lines, panel)) for name, panels in PICTURES.items()}
    drawable["overview"] = tuple(panel for panel in OVERVIEW if series(lines, panel))
    return {name: panels for name, panels in drawable.items() if panels}


def draw(lines: Sequence[Line], panels: Sequence[Panel], target: Path, note: str = "") -> None:
    """Write one picture, three panels in a row.

    :param note: a line of small print below, such as the machine.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same file gives the same picture.
    settings = {"svg.fonttype": "none", "svg.hashsalt": target.stem, "font.size": 8, "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(3.6 * columns, 2.7 * rows + 0.7), layout="constrained")
        handles: dict[str, Any] = {}
        for place, panel in enumerate(panels, 1):
            axes = figure.add_subplot(rows, columns, place)
            _draw_panel(axes, panel, series(lines, panel), handles)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(note, fontsize=7, color="#555555")
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="svg", metadata={"Date": None})


def _draw_panel(axes: Any, panel: Panel, found: Mapping[str, Sequence[Value]], handles: dict[str, Any]) -> None:
    for server, values in found.items():
        xs, middles = [value.x for value in values], [value.middle for value in values]
        spreads = [[v.middle - v.least for v in values], [v.most - v.middle for v in values]]
        label = LABELS.get(server, server)
        colour = COLOURS[[*LABELS, server].index(server) % len(COLOURS)]
        width = 2.0 if server == "alo" else 1.2
        line = axes.errorbar(xs, middles, spreads, label=label, color=colour, marker="o", markersize=3, linewidth=width)
        handles.setdefault(label, line)
    axes.set_xscale("log")
    if panel.is_log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(visible=True, color="#e5e5e5", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def note_of(lines: Iterable[Line]) -> str:
    """The machine and the revision of the results, in one line."""
    machine = next((line for line in lines if line.get("kind") == "machine"), None)
    if machine is None:
        return ""
    hardware = f"{machine['cores']} cores, {machine['processor']}, {machine['memory_gib']} GiB"
    return f"{hardware}; {machine['revision']}, {machine['date']}"


def read_results(file: Path) -> list[dict[str, Any]]:
    """The lines of a results file."""
    return [json.loads(text) for text in file.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="results of `python -m bench`, or output of `python -m bench.curves`")
    parser.add_argument("--to", type=Path, default=Path("var/bench/plots"), help="folder for the pictures")
    parser.add_argument("--only", help="names of pictures, with commas")
    options = parser.parse_args()
    lines = read_results(options.file)
    wanted = options.only.split(",") if options.only else None
    for name, panels in pictures(lines).items():
        if wanted is None or name in wanted:
            draw(lines, panels, options.to / f"{name}.svg", note_of(lines))
            say(f"drawn: {options.to / f'{name}.svg'}")


if __name__ == "__main__":
    main()

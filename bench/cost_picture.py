"""A picture of where the microseconds go, from the output of `bench.costs`.

    python -m bench.cost_picture costs.jsonl docs/images/costs.svg

One bar for a send in the gateway, one for a delivery, one for a send in Postgres; below each, what no server can avoid.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.costs import OTHER, STAGES

Line = Mapping[str, Any]

_POSTGRES: Final = "Postgres: "
_ORDER: Final = (*STAGES, OTHER, "statement", "commit to disk", "round trip")
"""A stage has the same colour in each bar."""

BARS: Final = (
    ("a send, gateway", "send_us", False),
    ("a delivery to one of 199, gateway", "delivery_us", False),
    ("a send, Postgres", "send_us", True),
)
"""Name of a bar, its field in the lines of the table, and whether it is Postgres'."""


def pieces(lines: Sequence[Line], field: str, *, is_postgres: bool) -> list[tuple[str, float]]:
    """The stages of one bar, dearest first, with their microseconds."""
    found = [
        (line["stage"].removeprefix(_POSTGRES), line[field])
        for line in lines
        if line["stage"].startswith(_POSTGRES) == is_postgres and line.get(field)
    ]
    return sorted(found, key=lambda piece: -piece[1])


def draw(lines: Sequence[Line], path: Path) -> None:
    """Write the picture of the table's lines."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    colors = mpl.color_sequences["tab20"]
    with mpl.rc_context({"svg.hashsalt": "costs", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        _draw_bars(figure.subplots(len(BARS), 1), lines, colors)
        figure.savefig(path, metadata={"Date": None})


def _draw_bars(all_axes: Any, lines: Sequence[Line], colors: Sequence[Any]) -> None:
    for axes, (name, field, is_postgres) in zip(all_axes, BARS, strict=True):
        stages = pieces(lines, field, is_postgres=is_postgres)
        limits = pieces(lines, field.replace("_us", "_limit_us"), is_postgres=is_postgres)
        for row, parts in ((1, stages), (0, limits)):
            left = 0.0
            for stage, us in parts:
                color = colors[_ORDER.index(stage)] if row else "#999999"
                axes.barh(row, us, left=left, color=color, edgecolor="white", label=stage if row else None)
                left += us
            axes.text(left, row, f" {left:.1f}", va="center")
        axes.set_yticks([0, 1], ["unavoidable", "measured"])
        axes.set_title(f"{name}, microseconds of processor time", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost_picture", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("file", type=Path, help="output of bench.costs")
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    options = parser.parse_args()
    lines = [json.loads(text) for text in options.file.read_text().splitlines()]
    draw([line for line in lines if line["kind"] == "summary"], options.picture)


if __name__ == "__main__":
    main()

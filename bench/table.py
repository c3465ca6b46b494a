"""Tables for Markdown from the `summary` lines of a benchmark.

    python -m bench.reads > reads.jsonl
    python -m bench.table reads.jsonl --metrics requests_per_s,server_us,p99_ms

One row for each load, one column for each metric: ours, the plan's, and the median of the rounds' ratios. Without
`--metrics`: a table for each load, with a row for each metric, a column for each server, and least and greatest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.summary import OURS, PLAN

_KEYS: Final = ("kind", "load", "metric", "ours_to_plan", "rounds")

Line = Mapping[str, Any]


def by_load(lines: Sequence[Line]) -> str:
    """A table for each load."""
    tables = []
    for load in dict.fromkeys(line["load"] for line in lines):
        its_lines = [line for line in lines if line["load"] == load]
        servers = list(dict.fromkeys(key for line in its_lines for key in line if key not in _KEYS))
        rows = [
            [line["metric"], *(_range(line.get(server)) for server in servers), _median(line.get("ours_to_plan"))]
            for line in its_lines
        ]
        tables.append(_table([load, *servers, "ours / plan"], rows))
    return "\n".join(tables)


def by_metric(lines: Sequence[Line], metrics: Sequence[str]) -> str:
    """One table with a row for each load."""
    found = {(line["load"], line["metric"]): line for line in lines}
    loads = dict.fromkeys(line["load"] for line in lines)
    rows = [[load, *(_compared(found.get((load, metric), {})) for metric in metrics)] for load in loads]
    return _table(["", *metrics], rows)


def _compared(line: Line) -> str:
    if not line.get(PLAN) or not line.get(OURS):
        return _median(line.get(OURS))
    return f"{_median(line[OURS])} / {_median(line[PLAN])} = {_median(line.get('ours_to_plan'))}"


def _median(spread: Mapping[str, float] | None) -> str:
    return _number(spread["median"]) if spread else ""


def _range(spread: Mapping[str, float] | None) -> str:
    return f"{_median(spread)} ({_number(spread['min'])} to {_number(spread['max'])})" if spread else ""


def _number(value: float) -> str:
    """With three digits that count, as far as they are behind the point."""
    return f"{value:,.{max(0, 2 - _digits(value))}f}"


def _digits(value: float) -> int:
    return len(str(abs(int(value)))) - 1 if abs(value) >= 1 else 0


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="output of a benchmark")
    parser.add_argument("--metrics", help="with commas; one table for all loads")
    options = parser.parse_args()
    lines = [line for line in map(json.loads, options.file.read_text().splitlines()) if line["kind"] == "summary"]
    sys.stdout.write(by_metric(lines, options.metrics.split(",")) if options.metrics else by_load(lines))


if __name__ == "__main__":
    main()

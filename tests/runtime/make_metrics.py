"""Writes `docs/metrics.md` from the table of metrics:

python -m tests.runtime.make_metrics
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runtime.metrics.metric import EACH, Metric
from runtime.metrics.table import SECTIONS

PAGE: Final = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD: Final = """# Metrics

`make generated` writes this page from `runtime/metrics/table.py`. `docs/operations.md` says where Prometheus fetches
the metrics.

Times are in seconds, sizes in bytes. A histogram `NAME` has the series `NAME_bucket`, `NAME_sum` and `NAME_count`. A
counter begins at 0 with its process. The values of a label are a closed set, and never a user, a conversation or a
path. A series with labels appears with its first value.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_section(title, metrics) for title, metrics in SECTIONS.items())


def _section(title: str, metrics: tuple[Metric, ...]) -> str:
    rows = "".join(f"| {' | '.join(_cells(metric))} |\n" for metric in metrics)
    return f"\n## {title}\n\n| metric | kind | process | labels | meaning |\n|---|---|---|---|---|\n{rows}"


def _cells(metric: Metric) -> Iterator[str]:
    yield f"`{metric.name}`"
    yield metric.kind
    yield "each" if metric.processes == EACH else ", ".join(metric.processes)
    yield "; ".join(f"`{name}`: {values}" for name, values in metric.labels.items())
    yield metric.help


if __name__ == "__main__":
    PAGE.write_text(page())

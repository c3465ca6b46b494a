"""What an expression of Prometheus reads: metrics of the table, with the labels that it names; and the runbook."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.metrics.metric import Metric
from runtime.metrics.table import BY_NAME

ROOT: Final = Path(__file__).parents[2]
OPS: Final = ROOT / "ops"

OF_PROMETHEUS: Final = {"process", "instance", "job", "le"}
"""Labels that a scrape adds (`process` by ops/prometheus/prometheus.yml), and that of a bucket."""

OPERATIONS: Final = (ROOT / "docs" / "operations.md").read_text()

_READ: Final = re.compile(r"\b(alo_[a-z_]+)(?:\{([^}]*)\})?(\[)?")
_MATCHER: Final = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


@dataclass(frozen=True)
class Read:
    """One place in an expression that reads a metric.

    :ivar series: as the expression names it, with the suffix of a histogram.
    :ivar matchers: (label, value or alternatives); without those of a scrape.
    :ivar is_range: whether it reads a stretch of time.
    """

    metric: Metric
    series: str
    matchers: tuple[tuple[str, tuple[str, ...]], ...]
    is_range: bool


def metrics_in(expression: str) -> list[Read]:
    """Each place that reads a metric of ours; fails for a name that is not in the table."""
    found = []
    for series, matchers, opening in _READ.findall(expression):
        name = re.sub(r"_(bucket|sum|count)$", "", series)
        metric = BY_NAME.get(series) or BY_NAME.get(name)
        assert metric is not None, f"{series} is not in runtime/metrics/table.py"
        assert (metric.name != series) == (metric.kind == "histogram"), f"{series}: a {metric.kind}"
        pairs = [(label, tuple(value.split("|"))) for label, _, value in _MATCHER.findall(matchers)]
        own = tuple(pair for pair in pairs if pair[0] not in OF_PROMETHEUS)
        found.append(Read(metric, series, own, bool(opening)))
    return found


def runbook(alert: str) -> str:
    """The paragraph of an alert."""
    [paragraph] = re.findall(rf"^#### {alert}\n\n(.*?)(?=^#|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    return str(paragraph)


def commands_of(alert: str) -> list[list[str]]:
    """The words behind each `python -m server ops` in the paragraph of an alert; those of the first one come first."""
    return [str(words).split() for words in re.findall(r"`python -m server ops\s([^`]+)`", runbook(alert))]

"""Writes `ops/grafana/dashboard.json` from the table of metrics:

python -m tests.ops.make_dashboard
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from runtime.metrics.metric import Metric
from runtime.metrics.table import BY_NAME, SECTIONS

DASHBOARD: Final = Path(__file__).parents[2] / "ops" / "grafana" / "dashboard.json"

WIDTH: Final = 24
HEIGHT: Final = 8
PANEL_WIDTH: Final = 8

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_HERE: Final = 'process=~"$process",instance=~"$instance"'
"""The processes that the reader of the dashboard has chosen."""

OVERVIEW: Final = (
    ("Processes that are ready", "none", (("{{process}}", "sum by (process) (alo_ready)"),)),
    ("Connections", "none", (("{{instance}}", "sum by (instance) (alo_connections)"),)),
    ("Sends a second", "ops", (("{{outcome}}", "sum by (outcome) (rate(alo_sends_total[$__rate_interval]))"),)),
    (
        "Delivery, p99",
        "s",
        (
            (
                "{{hop}}",
                "histogram_quantile(0.99, sum by (hop, le) (rate(alo_delivery_hop_seconds_bucket[$__rate_interval])))",
            ),
        ),
    ),
    (
        "Requests over HTTP, p50, p95 and p99",
        "s",
        tuple(
            (
                f"p{percent}",
                f"histogram_quantile({percent / 100}, sum by (le)"
                " (rate(alo_http_request_seconds_bucket[$__rate_interval])))",
            )
            for percent in (50, 95, 99)
        ),
    ),
    (
        "Requests over HTTP that fail",
        "percentunit",
        (
            (
                "5xx",
                'sum(rate(alo_http_request_seconds_count{status="5xx"}[$__rate_interval]))'
                " / sum(rate(alo_http_request_seconds_count[$__rate_interval]))",
            ),
        ),
    ),
    ("Jobs", "none", (("{{state}}", "sum by (state) (max by (task, state) (alo_jobs))"),)),
    ("Oldest job", "s", (("{{task}}", "max by (task) (alo_job_oldest_seconds) > 0"),)),
    (
        "Cores in use",
        "none",
        (
            (
                "{{process}} {{instance}}",
                "sum by (process, instance) (rate(alo_process_cpu_seconds_total[$__rate_interval]))",
            ),
        ),
    ),
)
"""The first row: title, unit, and (legend, expression) of each line."""


def dashboard() -> dict[str, Any]:
    """The whole dashboard: an overview, and a folded row for each section of the table with a panel for each metric."""
    panels: list[dict[str, Any]] = []
    top = _place(_overview(), panels, 0)
    for title, metrics in SECTIONS.items():
        row = {"type": "row", "title": title, "collapsed": True, "gridPos": _position(0, top, WIDTH, 1), "panels": []}
        _place((_panel(metric) for metric in metrics), row["panels"], top + 1)  # type: ignore[arg-type]
        panels.append(row)
        top += 1
    for number, panel in enumerate(_all(panels), start=1):
        panel["id"] = number
    return {
        "title": "ALO Shield",
        "uid": "alo-shield",
        "tags": ["alo"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "panels": panels,
    }


def _all(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from panel.get("panels", [])


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}
    for name, query in (
        ("process", "label_values(alo_live, process)"),
        ("instance", 'label_values(alo_live{process=~"$process"}, instance)'),
    ):
        yield {
            "name": name,
            "label": name.title(),
            "type": "query",
            "datasource": _SOURCE,
            "query": query,
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _place(new: Iterator[dict[str, Any]], panels: list[dict[str, Any]], top: int) -> int:
    """Place panels side by side from a line on; the next free line."""
    number = -1
    for number, panel in enumerate(new):
        line, column = divmod(number, WIDTH // PANEL_WIDTH)
        panel["gridPos"] = _position(column * PANEL_WIDTH, top + line * HEIGHT, PANEL_WIDTH, HEIGHT)
        panels.append(panel)
    return top + (number // (WIDTH // PANEL_WIDTH) + 1) * HEIGHT


def _position(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _overview() -> Iterator[dict[str, Any]]:
    for title, unit, lines in OVERVIEW:
        yield _chart(title, "", unit, lines)


def _panel(metric: Metric) -> dict[str, Any]:
    """The chart of one metric: a rate, the quantiles of a histogram, or the value itself."""
    assert metric is BY_NAME[metric.name]
    labels = list(metric.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    if metric.kind == "counter":
        by = ", ".join(labels or ["instance"])
        lines = [(legend or "{{instance}}", f"sum by ({by}) (rate({metric.name}{{{_HERE}}}[$__rate_interval]))")]
    elif metric.kind == "histogram":
        by = ", ".join([*labels, "le"])
        rate = f"sum by ({by}) (rate({metric.name}_bucket{{{_HERE}}}[$__rate_interval]))"
        lines = [
            (f"p{percent} {legend}".strip(), f"histogram_quantile({percent / 100}, {rate})") for percent in (50, 99)
        ]
    else:
        lines = [(f"{{{{instance}}}} {legend}".strip(), f"{metric.name}{{{_HERE}}}")]
    return _chart(metric.name, metric.help, _unit(metric), lines)


def _unit(metric: Metric) -> str:
    """Grafana's name of the unit."""
    base = metric.name.removesuffix("_total")
    per_second = metric.kind == "counter"
    if base.endswith("_seconds"):
        return "none" if per_second else "dateTimeFromNow" if base.endswith("start_time_seconds") else "s"
    if base.endswith("_bytes"):
        return "Bps" if per_second else "bytes"
    return "ops" if per_second else "none"


def _chart(title: str, description: str, unit: str, lines: Any) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for number, (legend, expression) in enumerate(lines)
        ],
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())

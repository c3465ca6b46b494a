"""The dashboard: that it is made from the table of metrics, and that Grafana can show it."""

from __future__ import annotations

import itertools
import json
from typing import Any

from runtime.metrics.table import METRICS
from tests.ops.make_dashboard import DASHBOARD, WIDTH, text
from tests.ops.ops_world import metrics_in

MADE: dict[str, Any] = json.loads(DASHBOARD.read_text())


def charts() -> list[dict[str, Any]]:
    return [chart for panel in MADE["panels"] for chart in (panel["panels"] if panel["type"] == "row" else [panel])]


def test_the_dashboard_is_made_from_the_table_of_metrics() -> None:
    assert text() == DASHBOARD.read_text(), "python -m tests.ops.make_dashboard writes it"


def test_each_metric_has_a_chart_and_each_chart_shows_metrics_of_the_table() -> None:
    shown = set()
    for chart in charts():
        for target in chart["targets"]:
            found = metrics_in(target["expr"])
            assert found, target["expr"]
            shown |= {each.metric.name for each in found}
    assert shown == {metric.name for metric in METRICS}


def test_no_two_panels_have_one_number_or_one_place() -> None:
    """Panels of a folded row take their places when it is unfolded."""
    panels = [*MADE["panels"], *(chart for panel in MADE["panels"] for chart in panel.get("panels", []))]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for group in (MADE["panels"], *(panel["panels"] for panel in MADE["panels"] if panel["type"] == "row")):
        for one, other in itertools.combinations([panel["gridPos"] for panel in group], 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= WIDTH for panel in group)


def test_each_line_has_a_legend_of_labels_that_its_expression_keeps() -> None:
    for chart in charts():
        for target in chart["targets"]:
            for label in [part.split("}}")[0] for part in target["legendFormat"].split("{{")[1:]]:
                kept = target["expr"].split("sum by (")[-1].split(")")[0] if "by (" in target["expr"] else "instance"
                named = {each for found in metrics_in(target["expr"]) for each in found.metric.labels}
                assert label in kept or label in named or label == "instance", target

"""The table of metrics follows Prometheus' conventions, and the page of documentation is made from it."""

from __future__ import annotations

import re

from runtime.metrics.metric import EACH, Metric
from runtime.metrics.table import BY_NAME, METRICS
from tests.runtime.make_metrics import PAGE, page


def test_the_page_of_documentation_has_every_metric() -> None:
    assert page() == PAGE.read_text(), "python -m tests.runtime.make_metrics writes it"


def test_names_follow_the_conventions_of_prometheus() -> None:
    """https://prometheus.io/docs/practices/naming/"""
    assert len(BY_NAME) == len(METRICS), "a name belongs to one metric"
    assert [metric.name for metric in METRICS if not _is_well_named(metric)] == []


def _is_well_named(metric: Metric) -> bool:
    is_counter = metric.name.endswith("_total")
    is_reserved = metric.name.endswith(("_bucket", "_sum", "_count", "_created", "_info"))
    has_other_unit = re.search(r"_(ms|us|milliseconds|minutes|kb|kib|mib|percent)(_|$)", metric.name)
    is_named = re.fullmatch(r"alo_[a-z][a-z_]*[a-z]", metric.name) is not None
    return is_named and is_counter == (metric.kind == "counter") and not is_reserved and not has_other_unit


def test_each_metric_is_shown_by_some_process_and_says_what_it_is() -> None:
    for metric in METRICS:
        assert set(metric.processes) <= set(EACH), metric.name
        assert metric.processes, metric.name
        assert metric.help.endswith("."), metric.name
        assert "\n" not in metric.help, metric.name


def test_no_label_is_a_user_a_conversation_or_a_path() -> None:
    names = {name for metric in METRICS for name in metric.labels}
    assert not names & {"user", "device", "conversation", "path", "address", "le", "quantile", "job", "instance"}
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)

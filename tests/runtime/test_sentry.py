"""Reports of errors: where they happened, and nothing of the data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from runtime.config import Config
from runtime.error_reports import open_error_reports
from runtime.sentry import SentryReports
from tests.collector import Collector, collecting
from tests.planted import PLANTED

SECRET = f"{PLANTED}: alo_{'x' * 43}, ann@example.org"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def reports(collector: Collector) -> Iterator[SentryReports]:
    reports = open_error_reports(Config(sentry_dsn=collector.dsn), "web")
    assert reports is not None
    yield reports
    reports.close()


def fail(content: str) -> None:
    secret_of_the_frame = content
    try:
        raise KeyError(secret_of_the_frame)
    except KeyError as error:
        raise ValueError(f"cannot take {content}") from error


def caught(content: str) -> ValueError:
    try:
        fail(content)
    except ValueError as error:
        error.add_note(content)
        return error
    raise AssertionError


def line(**fields: Any) -> dict[str, Any]:
    return {"event": "request_failed", "level": "error", "process": "web", **fields}


def test_an_error_is_reported_by_its_types_and_places_with_the_ids_of_its_line_alone(
    collector: Collector, reports: SentryReports
) -> None:
    given = line(
        exc_info=caught(SECRET), route="GET /v1/profile", request_id="r-1", trace_id="t-1", error=SECRET, path=SECRET
    )
    assert reports(None, "error", given) is given
    reports.close()
    [report] = collector.reports
    kinds = [(each["type"], each.get("value", "")) for each in report["exception"]["values"]]
    assert kinds == [("KeyError", ""), ("ValueError", "")]
    functions = [frame["function"] for frame in report["exception"]["values"][-1]["stacktrace"]["frames"]]
    assert functions[-2:] == ["caught", "fail"]
    assert report["tags"] == {
        "event": "request_failed",
        "process": "web",
        "route": "GET /v1/profile",
        "request_id": "r-1",
        "trace_id": "t-1",
    }
    for body in collector.bodies:
        assert PLANTED.encode() not in body
        assert b"secret_of_the_frame" not in body
        assert b"example.org" not in body
        assert b"alo_x" not in body


def test_a_group_is_reported_with_the_errors_in_it(collector: Collector, reports: SentryReports) -> None:
    reports(None, "error", line(exc_info=ExceptionGroup(SECRET, [caught(SECRET), OSError(5, SECRET, SECRET)])))
    reports.close()
    kinds = {each["type"] for each in collector.reports[0]["exception"]["values"]}
    assert kinds >= {"ExceptionGroup", "ValueError", "OSError"}
    assert PLANTED not in json.dumps(collector.reports)


def test_an_error_without_an_exception_is_reported_by_its_event(collector: Collector, reports: SentryReports) -> None:
    for method in ("info", "warning", "debug"):
        reports(None, method, line())
    reports(None, "error", {"event": "push_missed", "node": "ab", "error": SECRET})
    reports.close()
    [report] = collector.reports
    assert report["tags"] == {"event": "push_missed", "node": "ab"}
    assert PLANTED not in json.dumps(report)


def test_a_fault_that_lasts_is_reported_once_a_minute(collector: Collector, reports: SentryReports) -> None:
    for _ in range(100):
        reports(None, "error", line(exc_info=caught(SECRET)))
    reports.close()
    assert len(collector.reports) == 1


def test_the_error_that_ends_a_process_is_reported(collector: Collector, reports: SentryReports) -> None:
    reports.died(caught(SECRET))
    reports.close()
    [report] = collector.reports
    assert report["tags"] == {"event": "process_died", "process": "web"}
    assert PLANTED not in json.dumps(report)


def test_without_a_dsn_there_are_no_reports() -> None:
    assert open_error_reports(Config(), "web") is None

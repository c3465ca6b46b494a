"""A lasting fault is logged once a minute, with its count."""

from __future__ import annotations

from typing import Any

import structlog

from runtime.log_limit import INTERVAL_S, MAX_EVENTS, MAX_LINES, LogLimit


class Log:
    """A log with the limit, on a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.limit = LogLimit(lambda: self.now)

    def write(self, event: str, method: str = "warning", **fields: Any) -> dict[str, Any] | None:
        line = {"event": event, "level": method, "timestamp": str(self.now), **fields}
        try:
            return dict(self.limit(None, method, line))
        except structlog.DropEvent:
            return None


def test_the_same_line_is_written_once_a_minute_with_how_often_it_came() -> None:
    log = Log()
    assert log.write("lease_not_kept", error="full") is not None
    for _ in range(420):
        log.now += 1 / 7.1
        assert log.write("lease_not_kept", error="full") is None
    log.now = INTERVAL_S
    line = log.write("lease_not_kept", error="full")
    assert line is not None
    assert line["suppressed"] == 420
    log.now += INTERVAL_S
    again = log.write("lease_not_kept", error="full")
    assert again is not None
    assert "suppressed" not in again


def test_events_that_differ_are_written_up_to_the_limit_and_do_not_silence_other_events() -> None:
    log = Log()
    written = [log.write("request_refused", path=f"/{number}") for number in range(100)]
    assert sum(line is not None for line in written) == MAX_LINES
    assert log.write("node_vanished", node="a") is not None
    assert log.write("request_refused", "error", path="/") is not None, (
        "an event with a different level is a different event"
    )
    assert log.write("waiting_for_redis", error="gone", retry_in_s=1) is not None
    assert log.write("waiting_for_redis", error="gone", retry_in_s=2) is None, (
        "retry_in_s does not make a different event"
    )
    assert log.write("request_failed", path="/", request_id="a", trace_id="b") is not None
    assert log.write("request_failed", path="/", request_id="c", trace_id="d") is None, (
        "the same fault of a different request is not a different event"
    )


def test_lines_below_warning_are_never_left_out() -> None:
    log = Log()
    assert all(log.write("caught_up", "info", messages=0) for _ in range(100))


def test_two_faults_with_one_name_are_told_apart_by_their_tracebacks() -> None:
    log = Log()
    for traceback in ("Traceback: one", "Traceback: other"):
        assert log.write("request_failed", "error", exception=traceback) is not None
        assert log.write("request_failed", "error", exception=traceback) is None


def test_it_keeps_the_last_events_and_forgets_the_oldest() -> None:
    log = Log()
    for number in range(MAX_EVENTS + 5):
        log.write(f"event {number}")
    assert log.write("event 5") is None
    assert log.write("event 4") is not None

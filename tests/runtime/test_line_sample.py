"""Lines of a frequent event: all of a few, some of many, and the number of the rest."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from runtime.line_sample import REPORT_S, LineSample
from tests.waiting import let_pass


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_second_has_room_for_its_first_lines() -> None:
    clock = Clock()
    lines = LineSample("request_answered", 3, clock)
    assert [lines.has_room("2xx") for _ in range(5)] == [True] * 3 + [False] * 2
    clock.now += 0.99
    assert not lines.has_room("2xx")
    clock.now += 0.01
    assert [lines.has_room("2xx") for _ in range(4)] == [True] * 3 + [False]


def test_a_report_counts_the_lines_that_were_left_out_by_outcome_and_only_once(
    log_output: list[dict[str, Any]],
) -> None:
    lines = LineSample("request_answered", 1, Clock())
    for outcome in ("2xx", "2xx", "2xx", "5xx"):
        lines.has_room(outcome)
    lines.report()
    lines.report()
    [line] = [line for line in log_output if line["event"] == "lines_left_out"]
    assert (line["of"], line["lines"], line["outcomes"]) == ("request_answered", 3, {"2xx": 2, "5xx": 1})


async def test_lines_that_were_left_out_are_reported_from_time_to_time_and_at_the_end(
    autojump_clock: MockClock, log_output: list[dict[str, Any]]
) -> None:
    lines = LineSample("connection_ended", 1)

    def left_out() -> list[int]:
        return [line["lines"] for line in log_output if line["event"] == "lines_left_out"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.run)
        for _ in range(3):
            lines.has_room("lost")
        await let_pass(1.5 * REPORT_S, why="a report is due")
        assert left_out() == [2]
        for _ in range(5):
            lines.has_room("bye")
        nursery.cancel_scope.cancel()
    assert left_out() == [2, 4]

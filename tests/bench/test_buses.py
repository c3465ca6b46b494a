"""The summary of `bench.buses`: the cost with several Redis servers, round by round, beside that with one."""

from __future__ import annotations

from typing import Any

import pytest

from bench.buses import TOTAL, summarize_buses


def runs(factor: float) -> list[dict[str, Any]]:
    made = [
        {"round": round_, "servers": servers, "valid": True, TOTAL: cost * (factor if servers == 3 else 1)}
        for round_, cost in ((1, 100.0), (2, 400.0), (3, 900.0))
        for servers in (1, 3)
    ]
    return [*made, {"round": 4, "servers": 3, "valid": False}]


@pytest.mark.parametrize(("factor", "is_met"), [(1.04, True), (1.06, False)])
def test_a_send_may_cost_five_hundredths_more_with_several_servers(factor: float, is_met: bool) -> None:
    first, *_, requirement = summarize_buses(runs(factor))
    assert first["servers"]["1"] == {"median": 400.0, "min": 100.0, "max": 900.0}
    assert requirement["invalid_runs"] == 1
    assert requirement["total_at_3_to_1"] == {"median": factor, "min": factor, "max": factor}
    assert requirement["total_at_most_1.05"] is is_met


def test_without_runs_nothing_is_known() -> None:
    *_, requirement = summarize_buses([])
    assert requirement["total_at_most_1.05"] is None

"""Connections that are opened against a real gateway, and the verdict about them."""

from typing import Any

import pytest

from bench.openings import METRICS, PER_S, OpeningSettings, measure_openings, summarize_openings
from bench.ours import Ours

SETTINGS = OpeningSettings(servers=("alo",), rounds=1, connections=4, at_once=2)


@pytest.mark.long
def test_each_case_opens_all_of_its_connections(ours: Ours) -> None:
    participants = [participant for chat in ours.prepare([2] * 4) for participant in chat.participants]
    lines = list(measure_openings(ours, participants, SETTINGS))
    assert [line["case"] for line in lines] == ["welcome", "synced", "resumed"]
    for line in lines:
        assert line["valid"], line.get("first_error")
        assert line["connections"] == 4
        assert all(line[metric] > 0 for metric in METRICS)
    stranger = [type(each)(each.user, "unknown") for each in participants]
    line = next(measure_openings(ours, stranger, SETTINGS))
    assert (line["valid"], line["first_error"]) == (False, "close code 4501")


def opened(server: str, case: str, per_s: float, round_: int = 1) -> dict[str, Any]:
    return {"server": server, "case": case, "round": round_, "valid": True, PER_S: per_s}


@pytest.mark.parametrize(("ours", "enough"), [(700.0, True), (699.0, False)])
def test_each_case_is_compared_with_the_plans_connections(ours: float, enough: bool) -> None:
    runs = [opened("sio-redis", "open", 700.0), opened("alo", "welcome", 1400.0), opened("alo", "synced", ours)]
    verdicts = {
        line["case"]: line["at_least_the_plans"] for line in summarize_openings(runs) if line["kind"] == "requirement"
    }
    assert verdicts == {"welcome": True, "synced": enough, "resumed": None}

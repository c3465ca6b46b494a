"""Devices that come back to a real gateway in a storm, and the summaries of the runs."""

from contextlib import closing
from typing import Any

import pytest

from bench.herd import Herd
from bench.ours import Ours
from bench.processes import free_port
from bench.storm import CUT, KILLED, KINDS, StormSettings, StormUsers, make_people, measure_storm, summarize_storm
from tests.rows import each_row

SETTINGS = StormSettings(devices=15, spread_s=0.5, chats=2, rate=40.0, rounds=1)


@pytest.fixture
def people(ours: Ours) -> StormUsers:
    return make_people(ours, SETTINGS)


def test_devices_sync_with_the_cursor_of_the_last_time(ours: Ours, people: StormUsers) -> None:
    port = free_port()
    with ours.gateway(port), closing(Herd(port, people.tokens, syncs=True)) as herd:
        wave = herd.open(concurrency=4, timeout_s=10)
        assert herd.is_whole
        assert len(wave.syncs) == len(wave.openings) == len(people.tokens) == SETTINGS.devices
        herd.cut()
        assert herd.connected == 0
        wave = herd.come_back_within(0.3, timeout_s=10)
        assert herd.is_whole
        assert (len(wave.syncs), wave.failures, herd.losses) == (SETTINGS.devices, {}, 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_all_come_back_while_bystanders_go_on(ours: Ours, people: StormUsers, kind: str) -> None:
    lines = list(measure_storm(ours, people, kind, SETTINGS))
    assert all(line["valid"] for line in lines)
    runs = [line for line in lines if line["kind"] == "run"]
    stretches = ["before", "down", "during"] if kind == KILLED else ["before", "during"]
    assert [run["stretch"] for run in runs] == stretches
    assert all(run["connections"] == 2 * SETTINGS.chats for run in runs)
    [storm] = [line for line in lines if line["kind"] == "storm"]
    assert 0 < storm["seconds"] < SETTINGS.spread_s + 5
    assert storm["open_p99_ms"] > 0
    assert 0 < storm["sync_p50_ms"] <= storm["sync_p99_ms"]
    assert storm["server_cores"] > 0


def storm_line(round_: int, **figures: Any) -> dict[str, Any]:
    line = {"kind": "storm", "storm": CUT, "round": round_, "valid": True, "devices": 100, "failed_attempts": {}}
    return {**line, "seconds": 10.5, "open_p99_ms": 900.0, **figures}


def stretch(name: str, round_: int, p99: float, *, valid: bool = True) -> dict[str, Any]:
    return {
        "kind": "run",
        "storm": CUT,
        "stretch": name,
        "round": round_,
        "valid": valid,
        "ack_p99_ms": p99,
    }


@each_row(
    ("figures", "verdict"),
    [
        ({}, (True, True)),
        ({"seconds": 11.1}, (False, True)),
        ({"open_p99_ms": 1001.0}, (True, False)),
        ({"failed_attempts": {"no answer in time": 1}}, (True, True)),
        ({"failed_attempts": {"no answer in time": 1, "error overloaded": 1}}, (True, False)),
        ({"valid": False, "seconds": None}, (False, False)),
    ],
)
def test_a_storm_is_judged_by_how_soon_all_are_back(figures: dict[str, Any], verdict: tuple[bool, bool]) -> None:
    *_, requirement = summarize_storm([storm_line(1, **figures)], spread_s=10.0)
    assert (requirement["back_in_time"], requirement["open_p99_below_1_s"]) == verdict
    assert requirement["bystanders_p99_at_most_double"] is None


@pytest.mark.parametrize(("factor", "valid", "holds"), [(2.0, True, True), (2.1, True, False), (1.0, False, False)])
def test_bystanders_are_compared_with_their_own_round(factor: float, valid: bool, holds: bool) -> None:
    lines = [
        stretch(name, round_, p99 * (factor if name == "during" else 1), valid=valid or name == "before")
        for round_, p99 in ((1, 5.0), (2, 50.0))
        for name in ("before", "during")
    ]
    *_, requirement = summarize_storm([*lines, storm_line(1)], spread_s=10.0)
    assert requirement["bystanders_p99_at_most_double"] is holds

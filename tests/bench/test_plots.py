"""Plots come from a results file alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.plots import OVERVIEW, PICTURES, Value, draw, note_of, pictures, read_results, series

LATENCY, *_ = PICTURES["latency"]
STORED_LIST, STORED_HISTORY, _ = PICTURES["stored"]


def point(server: str, x: float, value: float, *, curve: str = "latency", **more: Any) -> dict[str, Any]:
    metric = "ack_p50_ms" if curve == "latency" else "total_us"
    line = {"kind": "point", "curve": curve, "x": x, "rate": 100 * x, "server": server, "valid": True, metric: value}
    return line | more


def test_a_point_is_the_median_of_its_rounds_and_ours_comes_first() -> None:
    lines = [point("sio-redis", 50, value, rate=100 * value) for value in (3.0, 9.0, 4.0)]
    lines += [point("alo", 90, 2.0), point("alo", 10, 1.0), {"kind": "run", "server": "alo"}]
    found = series(lines, LATENCY)
    assert list(found) == ["alo", "sio-redis"]
    assert found["alo"] == [Value(1000, 1.0, 1.0, 1.0), Value(9000, 2.0, 2.0, 2.0)]
    assert found["sio-redis"] == [Value(400, 4.0, 3.0, 9.0)]


def test_invalid_runs_and_runs_without_the_figure_are_no_points() -> None:
    lines = [point("alo", 10, 1.0, valid=False), {**point("alo", 20, 1.0), "ack_p50_ms": None}]
    assert series(lines, LATENCY) == {}


def test_the_kinds_of_operations_of_one_curve_are_kept_apart() -> None:
    lines = [
        point("alo", 1e4, 5.0, curve="stored", what="list"),
        point("alo", 1e4, 7.0, curve="stored", what="history"),
    ]
    assert series(lines, STORED_LIST) == {"alo": [Value(1e4, 5.0, 5.0, 5.0)]}
    assert series(lines, STORED_HISTORY) == {"alo": [Value(1e4, 7.0, 7.0, 7.0)]}


def test_only_what_the_results_have_is_drawn() -> None:
    lines = [point("alo", 1e4, 5.0, curve="stored", what="list")]
    assert pictures(lines) == {"stored": (STORED_LIST,), "overview": (STORED_LIST,)}
    assert pictures([]) == {}
    assert {panel.curve for panel in OVERVIEW} == set(PICTURES)


@pytest.mark.peers
def test_a_picture_is_the_same_each_time_and_its_text_is_text(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [point("alo", x, x / 10) for x in (10, 50, 90)]
    lines += [point("sio-redis", 50, value) for value in (5.0, 6.0)]
    machine = {"cores": 2, "processor": "a processor", "memory_gib": 8, "revision": "1234abcd", "date": "2026-01-01"}
    lines.append({"kind": "machine", **machine})
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_results(file)
    for name in ("one", "two"):
        draw(read, (LATENCY,), tmp_path / name / "latency.svg", note_of(read))
    one, two = ((tmp_path / name / "latency.svg").read_text() for name in ("one", "two"))
    assert one == two
    for text in ("ours", "the plan (Socket.IO, Redis, BullMQ)", "Ack, p50", "2 cores, a processor, 8 GiB"):
        assert text in one

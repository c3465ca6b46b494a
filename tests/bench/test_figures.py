"""Percentiles, stretches of time, schedules and summaries."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cpu import CpuMeter, tree, used
from bench.pace import Load, OpenLoop, parse_loads
from bench.recorder import Recorder, percentile
from bench.summary import summarize
from bench.workload import Chat, ChatParticipant, read_chats, write_chats


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([7.0], 99, 7.0), ([3.0, 1.0, 2.0], 50, 2.0), ([*map(float, range(1, 201))], 99, 198.0)],
)
def test_percentiles_are_nearest_ranks(values: list[float], percent: float, expected: float | None) -> None:
    assert percentile(values, percent) == expected


def test_a_latency_belongs_to_the_stretch_in_which_it_should_have_left() -> None:
    recorder = Recorder()
    recorder.acked(1.0, 1.5)
    recorder.open(2.0)
    recorder.acked(1.9, 2.5)  # left before
    recorder.acked(2.0, 2.25)
    assert recorder.close(3.0) == 1.0
    recorder.acked(2.5, 4.5)  # came after, which is the wait that must not be lost
    recorder.acked(3.0, 3.1)  # left after
    assert list(recorder.acks) == [0.25, 2.0]


def test_an_open_loop_gives_out_what_a_stall_held_up() -> None:
    open_loop = OpenLoop(rate=4, start=10.0)
    assert list(open_loop.due(10.0)) == [(0, 10.0)]
    assert list(open_loop.due(10.2)) == []
    assert list(open_loop.due(10.8)) == [(1, 10.25), (2, 10.5), (3, 10.75)]
    assert open_loop.next == 11.0


def test_loads_are_named_by_their_rate() -> None:
    loads = parse_loads("closed,200", window=3)
    assert loads == [Load(None, 3), Load(200.0, 3)]
    assert [load.name for load in loads] == ["closed", "rate-200"]


def test_a_tree_is_all_that_descends() -> None:
    assert tree([2], {1: [2, 3], 2: [4, 5], 5: [6]}) == {2, 4, 5, 6}


def test_cpu_of_a_child_that_has_ended_stays_with_its_parent() -> None:
    burn = "t = __import__('time'); end = t.process_time() + 0.1\nwhile t.process_time() < end: pass"
    meter = CpuMeter({"us": [os.getpid()]})
    before = meter.read()
    subprocess.run([sys.executable, "-c", burn], check=True)
    seconds = used(before, meter.read())
    assert seconds["us"] - seconds["generator"] > 0.08


def test_a_process_that_does_not_run_cannot_be_measured() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with pytest.raises(ProcessLookupError, match="server"):
        CpuMeter({"server": [ended.pid]}).read()


def test_chats_survive_the_way_to_another_process(tmp_path: Path) -> None:
    chats = [Chat("c", (ChatParticipant("one", "token"), ChatParticipant("other", is_reader=False)), writers=2)]
    write_chats(tmp_path / "below" / "chats.json", chats)
    assert read_chats(tmp_path / "below" / "chats.json") == chats


def run(server: str, round_: int, cpu: float, p50: float, *, valid: bool = True) -> dict[str, Any]:
    return {
        "kind": "run",
        "server": server,
        "round": round_,
        "load": "closed",
        "valid": valid,
        "server_us_per_send": cpu,
        "ack_p50_ms": p50,
        "ack_p99_ms": None,
    }


def test_a_summary_compares_round_by_round() -> None:
    runs = [
        run("alo", 1, 100.0, 5.0),
        run("sio-redis", 1, 200.0, 5.0),
        run("sio-redis", 2, 600.0, 9.0),
        run("alo", 2, 150.0, 6.0),
        run("alo", 3, 1.0, 1.0, valid=False),
        run("sio-redis", 3, 1.0, 1.0),
        run("alo", 4, 160.0, 8.0),
        run("sio-redis", 4, 200.0, 4.0),
    ]
    cpu, _p50, requirement, _ = summarize(runs)
    assert cpu["metric"] == "server_us_per_send"
    assert cpu["alo"] == {"median": 150.0, "min": 100.0, "max": 160.0}
    assert cpu["ours_to_plan"] == {"median": 0.5, "min": 0.25, "max": 0.8}
    assert requirement == {
        "kind": "requirement",
        "load": "closed",
        "invalid_runs": 1,
        "cpu_at_most_half": True,
        "p50_no_worse": True,
        "p99_no_worse": None,
    }


def test_ours_alone_meets_nothing_and_misses_nothing() -> None:
    *_, of_server, of_all = summarize([run("alo", 1, 100.0, 5.0)])
    assert of_server["cpu_at_most_half"] is None
    assert of_all["total_cpu_at_most_0.35"] is None


@pytest.mark.parametrize(("ours", "is_met"), [(175.0, True), (176.0, False)])
def test_total_cpu_is_judged_in_the_closed_loop_alone(ours: float, is_met: bool) -> None:
    runs = [
        {**run(server, 1, 100.0, 5.0), "ack_p99_ms": 9.0, "total_us_per_send": total, "load": load}
        for server, total in (("alo", ours), ("sio-redis", 500.0))
        for load in ("closed", "rate-200")
    ]
    requirements = [line for line in summarize(runs) if line["kind"] == "requirement"]
    assert [line["load"] for line in requirements] == ["closed", "closed", "rate-200"]
    assert requirements[1] == {
        "kind": "requirement",
        "load": "closed",
        "invalid_runs": 0,
        "total_cpu_at_most_0.35": is_met,
        "p50_no_worse": True,
        "p99_no_worse": True,
    }

"""The mixed day in miniature on our server, and the summaries of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench import day as day_module
from bench.contest import Traffic
from bench.databases import Shared
from bench.day import DaySettings, summarize_day, with_each_left_out
from bench.population import populate
from embedded.services import RunningServices


@pytest.mark.long
def test_a_day_on_all_our_processes(
    shared_services: RunningServices,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postgres, redis = shared_services.postgres, shared_services.redis
    shared = Shared(postgres.url, postgres.pid, postgres.log, redis_url, redis.pid)

    @contextmanager
    def services() -> Iterator[Shared]:
        yield shared

    monkeypatch.setattr("bench.contest.shared_services", services)
    runs: list[dict[str, Any]] = []
    monkeypatch.setattr("bench.program.print_line", runs.append)
    traffic = Traffic("60,60-send", warm_s=1.0, seconds=3.0, mark_interval_s=0.2, is_mixed=True)
    settings = DaySettings(("alo",), populate(30, 15, 8), rounds=1, is_by_kind=False, traffic=traffic)
    try:
        assert day_module.day(settings), runs
    finally:
        shared.drop_database("bench_alo")
    day, pages, *_ = runs
    assert (day["left_out"], day["unmarked"], day["unanswered"], day["connections"]) == ([], 0, 0, 30)
    assert day["operations_per_s"] == pytest.approx(60, rel=0.2)
    parts = ("server", "web", "worker", "postgres", "redis")
    whole = sum(day[f"{part}_us_per_operation"] for part in parts)
    assert day["total_us_per_operation"] == pytest.approx(whole, rel=0.01)
    for kind in ("ack", "delivery", "mark", "history", "list", "typing"):
        assert 0 < day[f"{kind}_p50_ms"] <= day[f"{kind}_p99_ms"]
    assert (pages["without"], pages["acked_per_s"]) == (["send"], 0)


def a_run(
    server: str, load: str, round_: int, us: float, *, cores: float = 0.0, valid: bool = True, done: float = 100.0
) -> dict[str, Any]:
    return {
        "server": server,
        "load": load,
        "rate": 100.0,
        "without": load.split("-")[2:],
        "left_out": ["typing"] if server == "wsbatch" else [],
        "operations_per_s": done,
        "round": round_,
        "valid": valid,
        "total_us_per_operation": us,
        "total_cores": cores,
        "web_cores": cores / 2,
    }


@pytest.mark.parametrize(("us", "is_met"), [(50.0, True), (51.0, False)])
def test_a_day_may_cost_half_of_the_plans(us: float, is_met: bool) -> None:
    runs = [
        *(a_run("alo", "rate-100", 1, us), a_run("sio-redis", "rate-100", 1, 100.0)),
        *(a_run("alo", "rate-100", 2, us * 10), a_run("sio-redis", "rate-100", 2, 1000.0)),
        a_run("sio-redis", "rate-100", 3, 1.0, valid=False),
    ]
    *_, requirement = summarize_day(runs)
    assert (requirement["load"], requirement["invalid_runs"]) == ("rate-100", 1)
    assert requirement["total_cpu_at_most_half"] is is_met
    *_, alone = summarize_day(runs[:1])
    assert alone["total_cpu_at_most_half"] is None


def test_a_server_has_kept_up_with_the_operations_that_it_can_do() -> None:
    runs = [
        *(a_run("alo", "rate-100", n, 1.0, done=done) for n, done in ((1, 100.0), (2, 97.9))),
        *(a_run("wsbatch", "rate-100", n, 1.0, done=done) for n, done in ((1, 95.0), (2, 93.1))),
    ]
    *_, requirement = summarize_day(runs)
    assert requirement["kept_up"] == {"alo": False, "wsbatch": True}


def test_a_kind_costs_what_a_day_without_it_saves() -> None:
    runs = [
        *(a_run("alo", "rate-100", 1, 1.0, cores=0.5), a_run("alo", "rate-100-list", 1, 1.0, cores=0.49)),
        *(a_run("alo", "rate-100", 2, 1.0, cores=0.5), a_run("alo", "rate-100-list", 2, 1.0, cores=0.48)),
    ]
    [line] = [line for line in summarize_day(runs) if line["kind"] == "by_kind"]
    assert (line["load"], line["operation"]) == ("rate-100", "list")
    # 5 of 100 operations a second are lists.
    assert line["alo"]["total_us"] == {"median": 3000.0, "min": 2000.0, "max": 4000.0}
    assert line["alo"]["web_us"]["median"] == 1500.0


def test_each_load_is_followed_by_those_that_leave_a_kind_out() -> None:
    loads = with_each_left_out(Traffic("200,800")).loads.split(",")
    assert loads[:3] == ["200", "200-send", "200-mark"]
    assert loads[6:] == ["800", "800-send", "800-mark", "800-history", "800-list", "800-typing"]

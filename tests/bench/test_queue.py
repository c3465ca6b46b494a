"""The queue's benchmark against real services, and the summaries of its runs and of the peer's."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import psycopg
import pytest
import redis as redis_py

from bench import queue_ours
from bench.ours import Ours
from bench.queue import BULLMQ, QueueSettings, measure_queue, summarize_queue
from bench.queue_ours import Case
from embedded.services import RunningServices
from jobs.engine.streams import JobStream


@pytest.fixture
def _environment(
    shared_services: RunningServices, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configures this process like one of `bench.queue_ours`."""
    monkeypatch.setattr(queue_ours, "SETTLE_S", 0.1)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("POSTGRES_PID", str(shared_services.postgres.pid))
    monkeypatch.setenv("REDIS_PID", str(shared_services.redis.pid))


STEP: Final = {"generator": 0.002, "redis": 0.0005, "postgres": 0.001, "machine": 0.01}
"""The CPU time in seconds that `SteadyMeter` shows between two readings."""


class SteadyMeter:
    """Instead of the processes' clocks: the same time passes between any two readings, however busy the machine is."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = groups
        self._readings = 0

    def read(self) -> dict[str, float]:
        self._readings += 1
        assert {*self._groups, "generator", "machine"} == STEP.keys()
        return {name: self._readings * seconds for name, seconds in STEP.items()}


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("case", ["add64", "bulk"])
@pytest.mark.parametrize(("kind", "portions"), [("volatile", [40]), ("durable", [16, 16, 8])])
def test_the_cost_of_a_job_is_the_cpu_of_all_portions_by_their_jobs(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, kind: str, portions: list[int], case: str
) -> None:
    monkeypatch.setattr(queue_ours, "CpuMeter", SteadyMeter)
    monkeypatch.setattr(queue_ours, "MAX_HANDED", 16)
    figures = Case(kind, 40).run(case)
    assert figures.pop("jobs_per_s") > 0
    count = len(portions)
    costs = {"client_us": 50.0 * count, "redis_us": 12.5 * count, "postgres_us": 25.0 * count}
    assert figures == {"jobs": 40, **costs, "total_us": 87.5 * count}
    # Each portion begins with empty queues, so those of the last portion are left.
    with psycopg.connect(database_url) as connection, redis_py.Redis.from_url(redis_url) as redis:
        entries = sum(redis.xlen(JobStream("noop", priority).name) for priority in range(3))
        [(rows,)] = connection.execute("select count(*) from jobs").fetchall()
    assert (entries, rows) == (portions[-1], portions[-1] if kind == "durable" else 0)


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("kind", ["volatile", "durable"])
def test_a_job_that_is_taken_has_more_memory_than_one_that_waits(kind: str) -> None:
    memory = Case(kind, 1000).run("memory")
    assert memory["jobs"] == 1000
    assert 0 < memory["waiting_bytes"] < memory["pending_bytes"]


@pytest.mark.usefixtures("_environment")
def test_a_job_is_followed_from_the_client_to_a_worker_in_another_process() -> None:
    figures = Case("volatile", 3).run("lat")
    assert 0 < figures["start_p50_ms"] <= figures["start_p99_ms"]
    assert min(figures["client_us"], figures["worker_us"]) > 0


def test_each_part_of_a_durable_jobs_cost_is_measured_or_the_run_is_invalid(ours: Ours) -> None:
    settings = QueueSettings(("durable",), cases=("proc32", "no such case"), rounds=1, jobs=40, lats=3)
    processed, failed = measure_queue(ours, settings)
    assert (processed["valid"], processed["jobs"], processed["fsync"]) == (True, 40, "off")
    assert min(processed["worker_us"], processed["redis_us"], processed["postgres_us"]) > 0
    assert failed["valid"] is False
    assert "no such case" in failed["first_error"]


def a_run(server: str, case: str, round_: int, figure: float, *, valid: bool = True) -> dict[str, Any]:
    metric = "start_p50_ms" if case == "lat" else "total_us"
    return {"server": server, "load": case, "round": round_, metric: figure, "valid": valid}


@pytest.mark.parametrize(("volatile", "durable", "hold"), [(99.0, 199.0, True), (100.0, 200.0, False)])
def test_a_volatile_job_is_to_cost_less_than_the_peers_and_a_durable_one_less_than_two(
    volatile: float, durable: float, hold: bool
) -> None:
    runs = [
        a_run(server, case, round_, total_us)
        for round_ in (1, 2, 3)
        for case in ("add64", "bulk", "proc1", "proc32")
        for server, total_us in ((BULLMQ, 100.0), ("volatile", volatile), ("durable", durable))
    ]
    runs.append(a_run("volatile", "bulk", 4, 9000.0, valid=False))
    lines = summarize_queue(runs)
    verdicts = [line for line in lines if line["kind"] == "requirement"]
    assert [line["holds"] for line in verdicts] == [hold] * 8 + [None] * 2
    assert {line["invalid_runs"] for line in verdicts} == {1}
    [whole] = [line for line in lines if line["load"] == "bulk+proc32"]
    assert whole["volatile"]["median"] == 2 * volatile


@pytest.mark.parametrize(("volatile", "durable", "hold"), [(0.9, 1.4, True), (1.0, 1.5, False)])
def test_a_volatile_job_is_to_begin_before_the_peers_and_a_durable_one_within_half_as_long_again(
    volatile: float, durable: float, hold: bool
) -> None:
    runs = [a_run(*run) for run in ((BULLMQ, "lat", 1, 1.0), ("volatile", "lat", 1, volatile))]
    verdicts = [line for line in summarize_queue([*runs, a_run("durable", "lat", 1, durable)]) if "holds" in line]
    assert [line["holds"] for line in verdicts] == [None] * 8 + [hold] * 2


def test_without_the_peer_nothing_is_judged() -> None:
    lines = summarize_queue([a_run("volatile", "bulk", 1, 10.0)])
    assert [line["holds"] for line in lines if line["kind"] == "requirement"] == [None] * 10

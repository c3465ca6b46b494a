"""The metrics of a worker."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from prometheus_client import CollectorRegistry, Counter

from jobs.engine import metrics as metrics_module
from jobs.engine.job import Job
from jobs.engine.metrics import Metrics
from jobs.engine.metrics_port import serve_metrics
from jobs.engine.queue import Queue
from jobs.engine.task import Task
from runtime.config import ConfigError
from store.jobs import TaskStatus
from tests.jobs.jobs_world import ended
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


async def sums(job: Job, first: int, second: int) -> int:
    if not second:
        raise ValueError("nothing to add")
    return first + second


def test_the_table_of_metrics_names_each_of_them() -> None:
    rows = re.findall(r"^\| `(\w+)\{", metrics_module.__doc__ or "", re.MULTILINE)
    assert sorted(name.removesuffix("_total") for name in rows) == sorted(
        family.name for family in Metrics([]).registry.collect()
    )


async def test_runs_waits_and_outcomes_are_counted_by_task(
    queue: Queue, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Metrics] = []

    def kept(tasks: Any) -> Metrics:
        made.append(Metrics(tasks))
        return made[-1]

    monkeypatch.setattr("jobs.engine.worker.Metrics", kept)
    task = Task(sums, attempts=1)
    await start_worker(task)
    for second in (1, 2, 0):
        await queue.enqueue(task, {"first": 1, "second": second})

    def value(name: str, **labels: str) -> float:
        return made[0].registry.get_sample_value(name, {"task": "sums", **labels}) or 0

    async def counted() -> bool:
        return [value("alo_job_runs_total", outcome=outcome) for outcome in ("done", "dead")] == [2, 1]

    await wait_until(counted, "two are done, one is dead")
    assert value("alo_job_run_seconds_count") == value("alo_job_wait_seconds_count") == 3
    assert value("alo_job_wait_seconds_sum") < 60


def test_depth_and_age_of_the_oldest_are_those_of_the_last_look() -> None:
    metrics = Metrics([Task(sums)])
    metrics.update([TaskStatus("sums", 5, 1, 2, 3, 12.5, True)], {"sums": 7})
    metrics.update([TaskStatus("sums", 4, 1, 2, 3, 2.5, False)], {"sums": 6})

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"task": "sums", **labels})

    states = ("waiting", "delayed", "running", "dead")
    assert [value("alo_jobs", state=state) for state in states] == [4, 1, 2, 3]
    assert value("alo_job_oldest_seconds") == 2.5
    assert value("alo_task_paused") == 0
    assert value("alo_jobs_in_redis") == 6


async def test_a_task_s_own_metric_is_among_the_worker_s(
    queue: Queue, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched over HTTP from a running worker: 0 before the first run, then the count of the handler."""
    ports: list[int] = []
    serving = trio.Event()

    async def on_a_free_port(
        host: str, port: int, registry: CollectorRegistry, *, task_status: trio.TaskStatus[int]
    ) -> None:
        async with trio.open_nursery() as server:
            ports.append(await server.start(serve_metrics, host, 0, registry))
            task_status.started(ports[0])
            serving.set()

    monkeypatch.setattr("jobs.engine.worker.serve_metrics", on_a_free_port)
    counter = Counter("greeted_people", "People greeted", registry=None)

    async def greet(job: Job, people: int) -> None:
        counter.inc(people)

    task = Task(greet, metrics=[counter], keep_result_s=60)
    await start_worker(task, metrics_port=1)

    async def scrape() -> str:
        await serving.wait()
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{ports[0]}/metrics")).text

    assert "greeted_people_total 0.0" in await scrape()
    assert await ended(queue, await queue.enqueue(task, {"people": 3})) == "done"
    assert "greeted_people_total 3.0" in await scrape()


def test_two_tasks_with_metrics_of_one_name_are_refused() -> None:
    first, second = (Counter("same", "The same", registry=None) for _ in range(2))
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics([Task(sums, metrics=[first]), Task(sums, name="other", metrics=[second])])


async def test_metrics_are_served_over_http_until_the_end(nursery: trio.Nursery) -> None:
    metrics = Metrics([Task(sums)])
    port = await nursery.start(serve_metrics, "127.0.0.1", 0, metrics.registry)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert 'alo_jobs_in_redis{task="sums"} 0.0' in answer.text
    with pytest.raises(ConfigError, match="METRICS_PORT"):
        await serve_metrics("127.0.0.1", port, metrics.registry)
    nursery.cancel_scope.cancel()

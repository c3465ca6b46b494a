"""The metrics of a worker's queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jobs.engine.job import Job
from jobs.engine.metrics import Metrics
from jobs.engine.queue import Queue
from jobs.engine.task import Task
from runtime.metrics.samples import Source
from store.distribution import Distribution
from store.jobs import TaskStatus
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


async def sums(job: Job, first: int, second: int) -> int:
    if not second:
        raise ValueError("nothing to add")
    return first + second


def value(source: Source, name: str, *labels: str) -> float:
    """The value of the one sample with these labels; of a distribution the number of values."""
    [found] = [each.value for each in source() if (each.name, each.labels) == (name, labels)]
    return found.count if isinstance(found, Distribution) else found


async def test_runs_waits_and_outcomes_are_counted_by_task(queue: Queue, start_worker: StartWorker) -> None:
    task = Task(sums, attempts=1)
    worker, _ = await start_worker(task)
    for second in (1, 2, 0):
        await queue.enqueue(task, {"first": 1, "second": second})

    async def counted() -> bool:
        if not any(each.name == "alo_job_runs_total" for each in worker.samples()):
            return False
        outcomes = ("done", "dead", "retry", "left")
        return [value(worker.samples, "alo_job_runs_total", "sums", each) for each in outcomes] == [2, 1, 0, 0]

    await wait_until(counted, "two are done, one is dead")
    assert value(worker.samples, "alo_job_run_seconds", "sums") == 3
    assert value(worker.samples, "alo_job_wait_seconds", "sums") == 3
    assert value(worker.samples, "alo_jobs_running") == 0
    [waits] = [each.value for each in worker.samples() if each.name == "alo_job_wait_seconds"]
    assert waits.sum < 60


def test_depth_and_age_of_the_oldest_are_those_of_the_last_look() -> None:
    metrics = Metrics([Task(sums)])
    metrics.update([TaskStatus("sums", 5, 1, 2, 3, 12.5, True)], {"sums": 7})
    metrics.update([TaskStatus("sums", 4, 1, 2, 3, 2.5, False)], {"sums": 6, "unknown": 9})
    states = ("waiting", "delayed", "running", "dead")
    assert [value(metrics.samples, "alo_jobs", "sums", state) for state in states] == [4, 1, 2, 3]
    assert value(metrics.samples, "alo_job_oldest_seconds", "sums") == 2.5
    assert value(metrics.samples, "alo_task_paused", "sums") == 0
    assert value(metrics.samples, "alo_jobs_in_redis", "sums") == 6


def test_a_task_that_this_worker_does_not_know_gets_no_series() -> None:
    metrics = Metrics([Task(sums)])
    metrics.update([TaskStatus("other", 5, 1, 2, 3, 12.5, True)], {})
    assert {each.labels[0] for each in metrics.samples() if each.labels} == {"sums"}

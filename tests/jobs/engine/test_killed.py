"""A worker is killed by SIGKILL in each phase of a job: its jobs run all the same, and are counted rightly (P8)."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.engine.consumer_group import GROUP
from jobs.engine.queue import Queue
from jobs.engine.streams import JobStream
from jobs.engine.task import Task
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.jobs.jobs_world import RecordingTask, ended
from tests.jobs.some_worker import PAUSES
from tests.processes import open_cluster
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]

ATTEMPTS = {"taken": [1], "claimed": [2], "running": [1, 2], "done": [1, 2], "settled": [1], "relayed": [1]}
"""Where it was killed -> the attempts of the runs that begin, of a durable job."""

VOLATILE_ATTEMPTS = {"taken": [2], "running": [1, 2], "done": [1, 2]}
"""A dead worker may have begun a volatile job that it took."""


assert set(ATTEMPTS) == set(PAUSES)


def heirs(recorder: RecordingTask) -> list[Task]:
    return [
        Task(recorder.note, name="work", keep_result_s=60),
        Task(recorder.note, name="volatile_work", keep_result_s=60, is_volatile=True),
    ]


async def let_leases_end(pool: Pool) -> None:
    """End the leases now. The victim has leases of real length, so that its heartbeats come in time."""
    await pool.fetch("update jobs set claimed_until = clock_timestamp() where claimed_until is not null")
    await pool.fetch("update jobs set due = clock_timestamp() where is_handed and claimed_until is null")


async def all_gone(pool: Pool, redis: Redis) -> bool:
    if await pool.fetch("select * from jobs"):
        return False
    for task in ("work", "volatile_work"):
        name = JobStream(task, 1).name
        length, pending = await redis.pipeline([("XLEN", name), ("XPENDING", name, GROUP)])
        if length or pending[0]:
            return False
    return True


CASES = [
    pytest.param(where, is_volatile, attempts, id=f"{where}-{'volatile' if is_volatile else 'durable'}")
    for is_volatile, expected in ((False, ATTEMPTS), (True, VOLATILE_ATTEMPTS))
    for where, attempts in expected.items()
]


@pytest.mark.parametrize(("where", "is_volatile", "expected"), CASES)
@pytest.mark.usefixtures("_quick_take_over")
async def test_another_worker_runs_the_job_of_a_killed_worker(
    pool: Pool,
    redis_url: str,
    redis: Redis,
    queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
    tmp_path: Path,
    where: str,
    is_volatile: bool,
    expected: list[int],
) -> None:
    tasks = heirs(recorder)
    runs = tmp_path / "runs"
    settings = {"TEST_RUNS": str(runs), "TEST_PAUSE": where}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        victim = await cluster.start("tests.jobs.some_worker")
        if where == "relayed":
            # As enqueued in a transaction: Redis has not heard of it.
            [(number,)] = await pool.fetch("select enqueue('work', '{\"number\": 7}')")
            job = str(number)
        else:
            job = await queue.enqueue(tasks[is_volatile], {"number": 7})
        await victim.wait_event("paused")
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
    await let_leases_end(pool)
    await start_worker(*tasks)
    await wait_until(lambda: all_gone(pool, redis), "nothing is left of the job")
    begun = [int(line.split()[1]) for line in runs.read_text().splitlines() if line[0] == "+"]
    assert begun + [attempt for _, attempt, _ in recorder.calls] == expected
    assert {number for id, _, number in recorder.calls if id == job} <= {7}
    assert await pool.fetch("select * from dead_jobs") == []


@pytest.mark.usefixtures("_quick_take_over")
async def test_a_job_that_kills_its_workers_is_dead_in_the_end(
    pool: Pool, redis_url: str, queue: Queue, recorder: RecordingTask, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Attempts count when they begin: otherwise the job would kill workers for ever."""
    work, volatile = (
        Task(recorder.note, name=name, attempts=1, is_volatile=is_volatile)
        for name, is_volatile in (("work", False), ("volatile_work", True))
    )
    settings = {"TEST_RUNS": str(tmp_path / "runs"), "TEST_PAUSE": "running"}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        victim = await cluster.start("tests.jobs.some_worker")
        for task in (work, volatile):
            await queue.enqueue(task, {"number": 1})

        async def both_run() -> bool:
            return sum(line["event"] == "paused" for line in victim.log) == 2

        await wait_until(both_run, "both jobs run")
        victim.kill()
        await victim.wait()
    await let_leases_end(pool)
    await start_worker(work, volatile)

    async def dead() -> list[Any]:
        rows = await pool.fetch("select task, attempts, reason from dead_jobs order by task")
        return rows if len(rows) == 2 else []

    reason = "the worker died, or was cut off, in the last attempt (1)"
    found = await wait_until(dead, "both are dead")
    assert found == [("volatile_work", 1, reason), ("work", 1, reason)]
    assert recorder.calls == []


@pytest.mark.usefixtures("_quick_take_over")
async def test_a_job_that_was_cancelled_before_its_worker_died_is_not_run_again(
    pool: Pool,
    redis: Redis,
    queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """Neither with its entry in Redis nor without: its row goes, or it would stay for ever."""
    tasks = heirs(recorder)
    settings = {"TEST_RUNS": str(tmp_path / "runs"), "TEST_PAUSE": "running"}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        victim = await cluster.start("tests.jobs.some_worker")
        jobs = await queue.enqueue_many(tasks[0], [{"number": 1}, {"number": 2}])

        async def both_run() -> bool:
            return sum(line["event"] == "paused" for line in victim.log) == 2

        await wait_until(both_run, "both jobs run")
        victim.kill()
        await victim.wait()
    for job in jobs:
        assert await queue.cancel(job) == "stopping"
    await let_leases_end(pool)
    # The entry of the first job is lost too, and its lease has ended.
    await pool.fetch("update jobs set due = clock_timestamp() where id = %s", (int(jobs[0]),))
    await redis.call("XTRIM", JobStream("work", 1).name, "MAXLEN", 1)
    await start_worker(*tasks)

    async def none() -> bool:
        return await pool.fetch("select * from jobs") == []

    await wait_until(none, "their rows are gone")
    assert await ended(queue, await queue.enqueue(tasks[0], {"number": 3})) == "done"
    assert recorder.numbers == [3]

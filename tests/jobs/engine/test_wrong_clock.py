"""Workers on machines with a wrong clock work as others do: due times come from Postgres and Redis."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from jobs.engine.queue import Queue
from store.postgres.pool import Pool
from tests.jobs.jobs_world import ended
from tests.jobs.some_worker import Runs, tasks_of
from tests.processes import open_cluster

FOLDER = Path(__file__).parents[2] / "system" / "wrong_clock"
WRONG_S = 1800


async def test_workers_an_hour_apart_run_each_job_once_and_at_its_time(
    pool: Pool, redis_url: str, queue: Queue, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    async with open_cluster(pool.url, redis_url, PYTHONPATH=path, TEST_RUNS=str(runs)) as cluster:
        for ahead_s in (-WRONG_S, WRONG_S):
            worker = await cluster.start("tests.jobs.some_worker", TEST_CLOCK_AHEAD_S=str(ahead_s))
            await worker.wait_event("working")
        began = trio.current_time()
        jobs = []
        for at, task in enumerate(tasks_of(Runs(os.devnull, "").work)):
            jobs += await queue.enqueue_many(task, [{"number": 100 * at + n} for n in range(20)])
            jobs += await queue.enqueue_many(task, [{"number": 100 * at + n} for n in range(20, 40)], delay_s=1)
        for job in jobs:
            assert await ended(queue, job) == "done"
        assert trio.current_time() - began >= 1
    begun = [line for line in runs.read_text().splitlines() if line[0] == "+"]
    assert sorted(begun) == sorted(f"+{100 * at + n} 1" for at in range(2) for n in range(40))

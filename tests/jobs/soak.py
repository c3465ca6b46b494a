"""`python -m tests.jobs.soak --jobs 100000 --seed N`: many jobs whose runs fail at random, while workers are killed and
Redis is flushed. Prints one line of JSON, and what to type to repeat it if a job was lost (status 1).

| | |
|---|---|
| `jobs`, `ran` | enqueued and committed; of these ran at least once |
| `lost` | neither succeeded nor dead in the end |
| `ghosts` | ran, though their transaction was rolled back |
| `duplicates` | successful runs beyond the first of their job |
| `failures` | runs that did not succeed |
| `dead` | in `dead_jobs`; they are to be those that give up, and only those |
| `flushes`, `kills` | of Redis; of workers |
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from embedded.services import services
from jobs.engine.queue import Queue
from jobs.engine.task import Task
from store import jobs
from store.errors import StoreError
from store.postgres.driver import connected
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from store.redis.buses import JOBS
from store.redis.client import Redis
from tests.faults import flush_redis
from tests.jobs.some_worker import HOPELESS, Runs, tasks_of
from tests.processes import Cluster, Process, open_cluster
from tests.waiting import let_pass, wait_until

WORKERS = 2
BATCH = 250
PATIENCE_S = 120.0
"""From the last fault to the end of the last job; jobs that have not ended by then are lost."""


class Soak:
    """One run.

    :ivar committed: numbers of the jobs that are to run.
    """

    def __init__(self, pool: Pool, redis_url: str, runs: Path, options: argparse.Namespace) -> None:
        self._pool = pool
        self._redis_url = redis_url
        self._runs = runs
        self._size: int = options.jobs
        self._seed = str(options.seed)
        self._faults: int = options.faults
        self._is_hurried: bool = options.hurry
        self._random = random.Random(self._seed)
        self.committed: set[int] = set()
        self.rolled_back: set[int] = set()
        self._harmed = trio.Event()
        self.flushes = 0
        self.kills = 0

    async def run(self) -> None:
        settings = {"TEST_RUNS": str(self._runs), "TEST_SEED": self._seed, "LOG_LEVEL": "error"}
        if self._is_hurried:
            settings["TEST_HURRY"] = "1"
        async with open_cluster(self._pool.url, self._redis_url, **settings) as cluster:
            workers = [await cluster.start("tests.jobs.some_worker") for _ in range(WORKERS)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._harm, cluster, workers)
                await self._enqueue_all()
            await self._wait_left(0, PATIENCE_S)

    async def _enqueue_all(self) -> None:
        redis = Redis(self._redis_url, JOBS)
        queue, task = Queue(self._pool, redis), tasks_of(Runs(os.devnull, "").work)[0]
        async with trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            at = 0
            while at < self._size:
                # So that all faults come while jobs flow.
                while self._flushes_and_kills() < self._faults * at // self._size:
                    await self._harmed.wait()
                numbers = range(at, min(at + BATCH, self._size))
                await self._enqueue(queue, task, numbers)
                at = numbers.stop
            nursery.cancel_scope.cancel()

    async def _enqueue(self, queue: Queue, task: Task, numbers: range) -> None:
        way = self._random.random()
        arguments = [{"number": number} for number in numbers]
        priority = self._random.choice(["high", "normal", "low"])
        if way < 0.6:
            await queue.enqueue_many(task, arguments, priority=priority)
        elif way < 0.75:
            await queue.enqueue_many(task, arguments, delay_s=self._random.random() * 2, priority=priority)
        elif way < 0.8:
            for each in arguments:
                await queue.enqueue(task, each, key=f"key {each['number']}")
        else:
            await self._enqueue_in_transactions(numbers)
            return
        self.committed.update(numbers)

    async def _enqueue_in_transactions(self, numbers: range) -> None:
        text = "select enqueue('work', jsonb_build_object('number', n)) from generate_series(%s::int, %s::int) n"
        async with connected(self._pool.url) as connection:
            for at in range(numbers.start, numbers.stop, 50):
                some = range(at, min(at + 50, numbers.stop))
                is_wanted = self._random.random() < 0.8
                await connection.query("begin")
                await connection.query(text, (some.start, some.stop - 1))
                await connection.query("commit" if is_wanted else "rollback")
                (self.committed if is_wanted else self.rolled_back).update(some)

    def _flushes_and_kills(self) -> int:
        return self.flushes + self.kills

    async def _harm(self, cluster: Cluster, workers: list[Process]) -> None:
        between_s = 0.4 if self._is_hurried else 2.0
        for number in range(self._faults):
            await let_pass(between_s * self._random.uniform(0.5, 1.5), why="faults come at random intervals")
            # One of each at least.
            if number == 0 or (number > 1 and self._random.random() < 0.5):
                await trio.to_thread.run_sync(flush_redis, self._redis_url)
                self.flushes += 1
            else:
                victim = self._random.randrange(len(workers))
                workers[victim].kill()
                await workers[victim].wait()
                self.kills += 1
                workers[victim] = await cluster.start("tests.jobs.some_worker")
            self._harmed.set()
            self._harmed = trio.Event()

    async def _wait_left(self, most: int, timeout_s: float) -> None:
        """Return once at most this many jobs are left."""

        async def are_few() -> bool:
            with suppress(StoreError):
                return bool((await self._pool.fetch("select count(*) <= %s from jobs", (most,)))[0][0])
            return False

        await wait_until(are_few, f"at most {most} jobs are left", timeout_s=timeout_s)

    async def outcome(self, seconds: float) -> dict[str, float]:
        begun: set[int] = set()
        succeeded: Counter[int] = Counter()
        failures = 0
        for line in self._runs.read_text().splitlines():
            number = int(line[1:].split()[0])
            if line[0] == "+":
                begun.add(number)
                failures += 1
            else:
                succeeded[number] += 1
                failures -= 1
        dead = {
            json.loads(job.payload)["number"]: job.reason for job in await jobs.dead_jobs(self._pool, limit=self._size)
        }
        hopeless = {number for number in self.committed if number % HOPELESS == HOPELESS - 1}
        return {
            "jobs": len(self.committed),
            "ran": len(self.committed & begun),
            "lost": len(self.committed - set(succeeded) - set(dead)),
            "ghosts": len(self.rolled_back & begun),
            "duplicates": sum(succeeded.values()) - len(succeeded),
            "failures": failures,
            "dead": len(dead),
            "dead_by_mistake": len(set(dead) - hopeless),
            "flushes": self.flushes,
            "kills": self.kills,
            "seconds": round(seconds, 1),
        }


async def soak(pool: Pool, redis_url: str, runs: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run it; returns the line to print."""
    each = Soak(pool, redis_url, runs, options)
    began = trio.current_time()
    await each.run()
    return await each.outcome(trio.current_time() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.soak")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--faults", type=int, default=16, help="how many; they come while jobs are enqueued")
    parser.add_argument("--hurry", action="store_true", help="leases of parts of a second, and faults as often")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="alo-soak-") as folder, services(Path(folder), durable=False) as running:
        trio.run(migrate, running.postgres.url)
        pool = Pool(running.postgres.url, 4)
        try:
            outcome = trio.run(soak, pool, running.redis.url, Path(folder) / "runs", options)
        finally:
            pool.close()
    print(json.dumps({"seed": options.seed, **outcome}))
    wrong = sum(outcome[name] for name in ("lost", "ghosts", "dead_by_mistake"))
    if wrong or outcome["ran"] < outcome["jobs"]:
        print(f"to repeat: python -m tests.jobs.soak --jobs {options.jobs} --seed {options.seed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Our job queue, as `bench.queue` measures it: one case in a process of its own that prints one JSON line.

    python -m bench.queue_ours CASE KIND --jobs N

The environment gives the addresses of Postgres and Redis (DATABASE_URL, REDIS_URL) and their process ids (POSTGRES_PID,
REDIS_PID); both must hold no jobs. The queue and the worker are those of the product; the task does nothing, and its
arguments are ids, as many as those of the peer's.

| case | |
|---|---|
| `add1`, `add64` | enqueue one by one, with 1 or 64 calls in flight |
| `bulk` | `enqueue_many` of 1,000 |
| `proc1`, `proc32` | a worker with concurrency 1 or 32 works off jobs that were enqueued before it began |
| `lat` | enqueue one at a time for an idle worker, which is a process of its own (`work`) |
| `memory` | memory of a job in Redis, waiting and taken |
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
import trio

from bench.cpu import CpuMeter, used
from bench.recorder import milliseconds
from jobs.engine import consumer_group, streams, volatile
from jobs.engine.consumer_group import TaskLimits
from jobs.engine.job import Job
from jobs.engine.queue import Queue
from jobs.engine.streams import MAX_HANDED, JobStream
from jobs.engine.task import Handler, Task
from jobs.engine.worker import Work, Worker
from runtime.config import Config
from runtime.log import configure_logging
from store.postgres.pool import Pool
from store.redis.buses import JOBS
from store.redis.client import Redis

CASES: Final = ("add1", "add64", "bulk", "proc1", "proc32", "lat", "memory")
KINDS: Final = ("volatile", "durable")

BULK: Final = 1000
WARM_JOBS: Final = 500
"""Jobs that are enqueued, or worked off, before the measurement."""

PAUSE_S: Final = 0.008
"""Pause between a job's start and the next job of `lat`; the peer's is the same."""

SETTLE_S: Final = 1.5
"""Time for the worker of `lat` to become idle."""

START_TIMEOUT_S: Final = 60.0
"""Time for one job of `lat` to begin; the first job waits until the worker has started."""

MESSAGE: Final = UUID("00000002-0000-4000-8000-000000000001")
USER: Final = UUID("00000000-0000-4000-8000-000000000001")
ARGUMENTS: Final[dict[str, Any]] = {"message": MESSAGE, "users": [USER]}


def task_of(kind: str, handler: Handler) -> Task:
    return Task(handler, name="noop", is_volatile=kind == "volatile")


async def noop(job: Job, message: UUID, users: list[UUID]) -> None:
    """Do nothing."""


class Counted:
    """Does nothing, and measures the time and the CPU between two of its runs.

    :param jobs: measured runs, after `WARM_JOBS` others.
    """

    def __init__(self, meter: CpuMeter, jobs: int) -> None:
        self._meter = meter
        self._jobs = jobs
        self._count = 0
        self._before: dict[str, float] = {}
        self._begun = 0.0
        self.figures: dict[str, Any] = {}

    async def noop(self, job: Job, message: UUID, users: list[UUID]) -> None:
        self._count += 1
        if self._count == WARM_JOBS:
            self._before, self._begun = self._meter.read(), time.perf_counter()
        elif self._count == WARM_JOBS + self._jobs:
            seconds = time.perf_counter() - self._begun
            cpu = used(self._before, self._meter.read())
            self.figures = figures(self._jobs, seconds, cpu, worker="generator")
            os.kill(os.getpid(), signal.SIGTERM)


class Told:
    """Does nothing, and prints the time at which it began."""

    async def noop(self, job: Job, message: UUID, users: list[UUID]) -> None:
        started_ns = time.monotonic_ns()
        os.write(1, b"%d %d\n" % (message.int, started_ns))


def figures(jobs: int, seconds: float, cpu: dict[str, float], **roles: str) -> dict[str, Any]:
    """The figures of a stretch of time.

    :param roles: the meter's group of the client, or of the worker.
    """
    parts = {f"{role}_us": cpu[group] for role, group in {**roles, "redis": "redis", "postgres": "postgres"}.items()}
    per_job = {name: round(each / jobs * 1e6, 1) for name, each in parts.items()}
    return {
        "jobs": jobs,
        "jobs_per_s": round(jobs / seconds),
        **per_job,
        "total_us": round(sum(parts.values()) / jobs * 1e6, 1),
    }


class Case:
    """One case of one kind, on services that hold no jobs."""

    def __init__(self, kind: str, jobs: int) -> None:
        self._kind = kind
        self._jobs = jobs
        self._config = Config.from_environment()
        services = {"postgres": [int(os.environ["POSTGRES_PID"])], "redis": [int(os.environ["REDIS_PID"])]}
        self._services: dict[str, list[int]] = services
        self._task = task_of(kind, noop)

    def run(self, case: str) -> dict[str, Any]:
        """The figures."""
        match case:
            case "add1" | "add64":
                return trio.run(self._add, partial(self._one_by_one, int(case[3:])))
            case "bulk":
                return trio.run(self._add, self._in_bulk)
            case "proc1" | "proc32":
                return self._process(int(case[4:]))
            case "lat":
                return trio.run(self._latency)
            case "memory":
                return trio.run(self._memory)
        raise ValueError(case)

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[tuple[Pool, Redis], None]:
        redis = Redis(self._config.jobs_url, JOBS)
        with closing(Pool(self._config.database_url, self._config.database_pool)) as pool:
            async with trio.open_nursery() as nursery:
                await nursery.start(redis.run)
                await redis.wait_connected()
                # Without an epoch the worker would take the empty Redis for a loss, and hand in every job again.
                await consumer_group.begin_epoch(redis)
                yield pool, redis
                nursery.cancel_scope.cancel()

    async def _one_by_one(self, in_flight: int, queue: Queue, jobs: int) -> None:
        todo = iter(range(jobs))

        async def enqueue() -> None:
            for _ in todo:
                await queue.enqueue(self._task, ARGUMENTS)

        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(enqueue)

    async def _in_bulk(self, queue: Queue, jobs: int) -> None:
        for at in range(0, jobs, BULK):
            await queue.enqueue_many(self._task, [ARGUMENTS] * min(BULK, jobs - at))

    async def _add(self, add: Callable[[Queue, int], Awaitable[None]]) -> dict[str, Any]:
        """Enqueue in portions that Redis takes; larger portions of durable jobs would bypass Redis."""
        meter = CpuMeter(self._services)
        portion = self._jobs if self._kind == "volatile" else MAX_HANDED
        seconds, total = 0.0, dict.fromkeys(("generator", "redis", "postgres"), 0.0)
        async with self._open() as (pool, redis):
            await add(Queue(pool, redis), WARM_JOBS)
            for at in range(0, self._jobs, portion):
                await self._clear(redis)
                queue, before, begun = Queue(pool, redis), meter.read(), time.perf_counter()
                await add(queue, min(portion, self._jobs - at))
                seconds += time.perf_counter() - begun
                cpu = used(before, meter.read())
                total = {name: total[name] + cpu[name] for name in total}
        return figures(self._jobs, seconds, total, client="generator")

    async def _clear(self, redis: Redis) -> None:
        await redis.call("FLUSHALL")
        if self._kind == "durable":
            with psycopg.connect(self._config.database_url, autocommit=True) as connection:
                connection.execute("truncate jobs")

    def _process(self, concurrency: int) -> dict[str, Any]:
        async def fill() -> None:
            async with self._open() as (pool, redis):
                # `concurrency` more jobs keep the worker full until the last counted job begins.
                await self._in_bulk(Queue(pool, redis), WARM_JOBS + self._jobs + concurrency)

        trio.run(fill)
        counted = Counted(CpuMeter(self._services), self._jobs)
        self.work(counted.noop, concurrency)
        return counted.figures

    def work(self, handler: Handler, concurrency: int) -> None:
        """Run a worker until SIGTERM."""
        task = task_of(self._kind, handler)
        config = replace(self._config, worker_concurrency=concurrency)
        trio.run(Worker(config, lambda *_: nullcontext(Work({task.name: task}))).run)

    async def _latency(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "bench.queue_ours", "work", self._kind]
        async with trio.open_nursery() as nursery, self._open() as (pool, redis):
            worker: trio.Process = await nursery.start(
                partial(trio.run_process, command, stdout=subprocess.PIPE, capture_stdout=False)
            )
            assert worker.stdout is not None
            async with aclosing(_lines(worker.stdout)) as lines:
                found = await self._one_at_a_time(Queue(pool, redis), lines, worker.pid)
            worker.terminate()
        return found

    async def _one_at_a_time(self, queue: Queue, lines: AsyncIterator[bytes], worker: int) -> dict[str, Any]:
        meter = CpuMeter({**self._services, "worker": [worker]})
        starts, calls = [], []
        for number in range(-10, self._jobs):
            if number == 0:
                await trio.sleep(SETTLE_S)
                before, begun = meter.read(), time.perf_counter()
            message = UUID(int=number + 10)
            enqueued_ns = time.monotonic_ns()
            await queue.enqueue(self._task, {"message": message, "users": [USER]})
            returned_ns = time.monotonic_ns()
            with trio.fail_after(START_TIMEOUT_S):
                which, started_ns = map(int, (await anext(lines)).split())
            assert which == message.int
            starts.append((started_ns - enqueued_ns) / 1e9)
            calls.append((returned_ns - enqueued_ns) / 1e9)
            await trio.sleep(PAUSE_S)
        seconds = time.perf_counter() - begun
        cpu = used(before, meter.read())
        return {
            **figures(self._jobs, seconds, cpu, client="generator", worker="worker"),
            "start_p50_ms": milliseconds(starts[10:], 50),
            "start_p99_ms": milliseconds(starts[10:], 99),
            "enqueue_p50_ms": milliseconds(calls[10:], 50),
            "enqueue_p99_ms": milliseconds(calls[10:], 99),
        }

    async def _memory(self) -> dict[str, Any]:
        stream = JobStream(self._task.name, 1)
        async with self._open() as (_, redis):
            await consumer_group.make_groups(redis, [stream])
            before = await _used_memory(redis)
            for at in range(0, self._jobs, BULK):
                # As the queue and the relay do it; in production Redis holds at most `MAX_HANDED` durable jobs of a
                # task.
                numbers = range(10**6 + at, 10**6 + min(at + BULK, self._jobs))
                await streams.add(redis, [(stream, self._fields(number)) for number in numbers])
            waiting = await _used_memory(redis)
            taken = 0
            while taken < self._jobs:
                some = await consumer_group.take(redis, "bench", {self._task.name: TaskLimits()}, BULK)
                taken += len(some.entries)
            pending = await _used_memory(redis)
        return {
            "jobs": self._jobs,
            "waiting_bytes": round((waiting - before) / self._jobs, 1),
            "pending_bytes": round((pending - before) / self._jobs, 1),
        }

    def _fields(self, number: int) -> tuple[Any, ...]:
        if self._kind == "durable":
            return streams.durable_fields(number)
        return streams.volatile_fields(volatile.new_id(), self._task.encode(ARGUMENTS))


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncGenerator[bytes, None]:
    rest = b""
    async for data in stream:
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line


async def _used_memory(redis: Redis) -> int:
    """Redis's memory without its AOF buffer, which a rewrite of the AOF makes large for a while."""
    info = dict(line.partition(b":")[::2] for line in (await redis.call("INFO", "memory")).split() if b":" in line)
    return int(info[b"used_memory"]) - int(info[b"mem_aof_buffer"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queue_ours", description=__doc__.partition("\n")[0])
    parser.add_argument("case", choices=(*CASES, "work"))
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--jobs", type=int, default=20_000)
    options = parser.parse_args()
    # Logs go to standard error, as those of the product do.
    configure_logging("bench", "warning")
    case = Case(options.kind, options.jobs)
    if options.case == "work":
        case.work(Told().noop, 1)
    else:
        print(json.dumps(case.run(options.case)), flush=True)


if __name__ == "__main__":
    main()

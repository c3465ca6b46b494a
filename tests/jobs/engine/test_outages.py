"""Redis and Postgres stop, come back, or are full, while jobs flow: all enqueued jobs run (P8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from embedded.postgres import PostgresServer
from embedded.redis import RedisServer
from jobs.engine import consumer_group, streams
from jobs.engine.queue import Queue
from jobs.engine.streams import JobStream
from jobs.engine.task import Backoff, Task
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis, RedisError
from tests.conftest import migrated_postgres
from tests.jobs.jobs_world import RecordingTask, ended, no_jobs
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


@pytest.fixture
def crashing_postgres(tmp_path: Path, migrated_data: Path) -> Iterator[PostgresServer]:
    """Its commits survive SIGKILL, but not a crash of the machine."""
    with migrated_postgres(migrated_data, tmp_path / "postgres", {"fsync": "off"}) as postgres:
        yield postgres


@pytest.fixture
def its_queue(pool: Pool, its_redis: Redis) -> Queue:
    """A queue for tests that break their Redis."""
    return Queue(pool, its_redis)


async def test_redis_restarted_and_flushed_while_jobs_flow_loses_none(
    pool: Pool,
    own_redis: RedisServer,
    its_queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
    log_output: list[dict[str, Any]],
) -> None:
    """The log warns of each flush, but not of an empty Redis when a worker starts."""
    task = Task(recorder.note)
    for _ in range(2):
        await start_worker(task, redis=own_redis.url)
    enqueued = 0

    async def enqueue(count: int) -> None:
        nonlocal enqueued
        for _ in range(count):
            await its_queue.enqueue(task, {"number": enqueued})
            await its_queue.enqueue_many(task, [{"number": enqueued + 1}, {"number": enqueued + 2}])
            await pool.fetch("select enqueue('note', jsonb_build_object('number', %s::int))", (enqueued + 3,))
            enqueued += 4

    def flushes() -> int:
        return [line["event"] for line in log_output].count("redis_was_flushed")

    for kill in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(enqueue, 15)
            await recorder.wait_calls(len(recorder.calls) + 5)
            await wait_until(lambda kill=kill: flushes() == kill, f"{kill} flushes are warned of")  # type: ignore[misc]
            await trio.to_thread.run_sync(own_redis.kill)
        await enqueue(5)
        await trio.to_thread.run_sync(own_redis.start)
        await enqueue(5)
    await wait_until(lambda: no_jobs(pool), "all have ended")
    assert set(recorder.numbers) == set(range(enqueued))
    await wait_until(lambda: flushes() == 2, "2 flushes are warned of")


async def test_jobs_in_a_full_redis_run_and_the_others_wait_in_postgres(
    pool: Pool,
    own_redis: RedisServer,
    its_redis: Redis,
    its_queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
    log_output: list[dict[str, Any]],
) -> None:
    """Also by a worker that starts then, and with a task that has no stream in Redis yet."""
    durable, volatile = Task(recorder.note), Task(recorder.note, name="other", is_volatile=True)
    newer = Task(recorder.note, name="newer")
    await consumer_group.make_groups(its_redis, streams.streams_of(["note", "other"]))
    for task in (durable, volatile):
        await its_queue.enqueue_many(task, [{"number": number} for number in range(20)])
    await its_redis.call("CONFIG", "SET", "maxmemory", 1)
    for number in range(20, 25):
        await its_queue.enqueue(durable, {"number": number})
    assert [line["event"] for line in log_output].count("jobs_wait_in_postgres") == 5
    for key in ("", "k"):
        for delay_s in (0.0, 1.0):
            with pytest.raises(RedisError, match="OOM"):
                await its_queue.enqueue(volatile, {"number": 99}, key=key, delay_s=delay_s)
    await start_worker(durable, volatile, newer, redis=own_redis.url)
    await recorder.wait_calls(40)
    assert sorted(recorder.numbers) == sorted([*range(20), *range(20)])

    async def loud() -> bool:
        refused = {line["log_level"] for line in log_output if line["event"] == "jobs_wait_in_postgres"}
        return "error" in refused and any(line["event"] == "redis_is_full" for line in log_output)

    await wait_until(loud, "the log says that Redis is full")

    async def five_left() -> bool:
        return await pool.fetch("select count(*) from jobs") == [(5,)]

    await wait_until(five_left, "what was there has ended")
    await its_queue.enqueue(newer, {"number": 25})
    await its_redis.call("CONFIG", "SET", "maxmemory", 0)
    await recorder.wait_calls(46)
    await wait_until(lambda: no_jobs(pool), "all have ended")
    assert sorted(recorder.numbers) == sorted([*range(20), *range(26)])


@pytest.mark.usefixtures("_quick_take_over")
async def test_a_volatile_job_that_fails_while_redis_is_full_is_tried_again(
    own_redis: RedisServer, its_redis: Redis, its_queue: Queue, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """Its next attempt cannot be written, so the entry stays until a worker takes it over."""
    task = Task(recorder.note, is_volatile=True, attempts=4, backoff=Backoff(0.01, 0.01))
    recorder.errors = [ValueError("one"), ValueError("two")]
    await start_worker(task, redis=own_redis.url)
    await its_queue.enqueue(task, {"number": 1})
    await recorder.wait_calls(1)
    await its_redis.call("CONFIG", "SET", "maxmemory", 1)
    await recorder.wait_calls(3)

    async def gone() -> bool:
        return await its_redis.call("XLEN", JobStream("note", 1).name) == 0

    await wait_until(gone, "it has ended")
    assert [attempt for _, attempt, _ in recorder.calls] == [1, 2, 3]


async def test_postgres_killed_while_jobs_flow_loses_no_committed_job(
    crashing_postgres: PostgresServer, redis_url: str, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """Volatile jobs go on without it meanwhile."""
    pool = Pool(crashing_postgres.url, 4)
    queue, task = Queue(pool, redis), Task(recorder.note)
    volatile = Task(recorder.note, name="other", is_volatile=True, keep_result_s=60)
    for _ in range(2):
        await start_worker(task, volatile, database=crashing_postgres.url)
    committed = 0

    async def enqueue_until_it_fails() -> None:
        nonlocal committed
        try:
            while True:
                await queue.enqueue_many(task, [{"number": committed}, {"number": committed + 1}])
                committed += 2
        except StoreError:
            pass

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(enqueue_until_it_fails)
            await recorder.wait_calls(len(recorder.calls) + 20)
            await trio.to_thread.run_sync(crashing_postgres.kill)
        job = await queue.enqueue(volatile, {"number": -1})

        async def done() -> bool:
            return b"done" in (await redis.call("HGETALL", f"alo:{{jobs}}:progress:{job}"))  # noqa: B023

        await wait_until(done, "a volatile job has run")
        await trio.to_thread.run_sync(crashing_postgres.start)
        await pool.wait_ready()
    await wait_until(lambda: no_jobs(pool), "all have ended", timeout_s=30)
    pool.close()
    assert set(recorder.numbers) >= set(range(committed))


@pytest.mark.parametrize("service", ["Redis", "Postgres"])
async def test_a_worker_stops_in_time_although_a_service_is_away(
    own_redis: RedisServer,
    own_postgres: PostgresServer,
    recorder: RecordingTask,
    start_worker: StartWorker,
    log_output: list[dict[str, Any]],
    service: str,
) -> None:
    """An idle one at once."""
    worker, _ = await start_worker(Task(recorder.note), redis=own_redis.url, database=own_postgres.url)
    await worker.wait_ready()
    await trio.to_thread.run_sync(own_redis.kill if service == "Redis" else own_postgres.kill)

    async def stopped() -> bool:
        return any(line["event"] == "stopped" for line in log_output)

    worker.stop()
    await wait_until(stopped, "it has stopped", timeout_s=8)


async def test_a_job_enqueued_while_redis_is_away_begins_when_it_is_back(
    pool: Pool,
    own_redis: RedisServer,
    its_redis: Redis,
    its_queue: Queue,
    recorder: RecordingTask,
    start_worker: StartWorker,
) -> None:
    task = Task(recorder.note, keep_result_s=60)
    await start_worker(task, redis=own_redis.url)
    await trio.to_thread.run_sync(own_redis.kill)
    job = await its_queue.enqueue(task, {"number": 1})
    with pytest.raises(StoreError):
        await its_queue.enqueue(Task(recorder.note, name="other", is_volatile=True), {"number": 2})
    await trio.to_thread.run_sync(own_redis.start)
    await its_redis.wait_connected()
    assert await ended(its_queue, job) == "done"

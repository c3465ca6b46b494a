"""All keys that the queue writes to Redis are bounded or expire, and are in the table of `jobs.engine.streams`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from jobs.engine import streams, volatile
from jobs.engine.job import GiveUp, Job, Snooze
from jobs.engine.queue import Queue
from jobs.engine.task import Backoff, Task
from store.errors import Overloaded
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.jobs.jobs_world import RecordingTask, ended
from tests.waiting import let_pass, wait_until

StartWorker = Callable[..., Awaitable[Any]]


def documented() -> dict[str, re.Pattern[str]]:
    """The keys in the table, as patterns."""
    names = re.findall(r"^\| `(alo:[^`]+)` \|", str(streams.__doc__), re.MULTILINE)
    assert len(names) == 8
    return {name: re.compile(re.sub("[A-Z]+", ".+", name)) for name in names}


@pytest.mark.usefixtures("_quick_take_over")
async def test_keys_are_as_documented_and_nothing_stays(
    queue: Queue, pool: Pool, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """After a busy run with everything that there is: only what expires, empty streams, and the epoch."""
    tasks = [
        Task(
            recorder.note,
            name=f"{kind}_{is_volatile}".lower(),
            is_volatile=is_volatile,
            attempts=2,
            backoff=Backoff(0.01, 0.01),
            keep_result_s=60,
            rate=(1000, 60) if kind == "rated" else None,
            concurrency=3 if kind == "limited" else None,
        )
        for kind in ("plain", "rated", "limited")
        for is_volatile in (False, True)
    ]

    async def told(job: Job) -> None:
        await job.report("half of it")

    telling = Task(told)
    recorder.errors = [ValueError("x"), GiveUp("x"), Snooze(0.01), *[ValueError("x")] * 5]
    await start_worker(*tasks, telling)
    jobs: list[str] = [await queue.enqueue(telling, {})]
    for task in tasks:
        jobs += await queue.enqueue_many(task, [{"number": number} for number in range(10)])
        jobs.append(await queue.enqueue(task, {"number": 10}, key="k", priority="high"))
        jobs.append(await queue.enqueue(task, {"number": 11}, delay_s=0.05, priority="low"))
        unwanted = await queue.enqueue(task, {"number": 12}, delay_s=0.05)
        await queue.cancel(unwanted)
    for job in jobs[1:]:
        assert await ended(queue, job) in ("done", "failed", "dead")

    async def nothing_left() -> bool:
        names = [each.name for each in streams.streams_of(task.name for task in [*tasks, telling])]
        lengths = await redis.pipeline([("XLEN", name) for name in names] + [("ZCARD", volatile.LATER)])
        return sum(lengths) == 0

    await wait_until(nothing_left, "nothing is left")
    patterns = documented()
    seen: dict[str, list[str]] = {name: [] for name in patterns}
    for name in sorted(key.decode() for key in await redis.call("KEYS", "*")):
        [kind] = [kind for kind, pattern in patterns.items() if pattern.fullmatch(name)]
        seen[kind].append(name)
    # Ended jobs release their keys, and Redis deletes an empty set.
    assert seen.pop("alo:{jobs}:key:TASK:KEY") == []
    assert seen.pop("alo:{jobs}:later") == []
    # One key each; a stream is empty by now, which was seen above.
    assert seen.pop("alo:{jobs}:epoch") == ["alo:{jobs}:epoch"]
    assert len(seen.pop("alo:{jobs}:stream:TASK:PRIORITY")) == 3 * (len(tasks) + 1)
    for names in seen.values():
        assert names
        for name in names:
            assert 0 < await redis.call("PTTL", name) <= 1000 * volatile.CANCELLED_S


async def test_redis_remembers_only_the_latest_cancelled_volatile_jobs(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volatile, "MAX_CANCELLED", 3)
    for number in range(5):
        await redis.call("ZADD", volatile.CANCELLED, number, f"v{number}")
    await volatile.cancel(redis, "v5")
    assert await volatile.cancelled_of(redis, [f"v{number}" for number in range(6)]) == {"v3", "v4", "v5"}


async def test_durable_jobs_beyond_what_redis_is_to_hold_wait_in_postgres_and_run(
    queue: Queue,
    pool: Pool,
    redis: Redis,
    recorder: RecordingTask,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MAX_HANDED", 20)
    task = Task(recorder.note)
    stream = streams.JobStream("note", 1)
    for _ in range(6):
        await queue.enqueue_many(task, [{"number": 1}] * 10)
    assert await redis.call("XLEN", stream.name) == 20
    await pool.fetch("select enqueue('note', '{\"number\": 1}') from generate_series(1, 60)")
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, await redis.call("XLEN", stream.name))
            await let_pass(0.005, why="the stream's length is sampled")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await start_worker(task)
        await recorder.wait_calls(120)
        nursery.cancel_scope.cancel()
    # Two workers that look at the same moment may both find room.
    assert most <= 40


async def test_volatile_jobs_beyond_what_redis_is_to_hold_are_refused(
    queue: Queue, recorder: RecordingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_WAITING", 2)
    task = Task(recorder.note, is_volatile=True)
    for delay_s in (0.0, 60.0):
        for number in range(2):
            await queue.enqueue(task, {"number": number}, delay_s=delay_s)
        with pytest.raises(Overloaded):
            await queue.enqueue(task, {"number": 3}, delay_s=delay_s)


async def test_invalid_element_among_delayed_jobs_holds_up_no_job(
    queue: Queue, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    for packed in (b"\xc1", b"", b"text", b"\x93\xa1a\xa1b"):
        await redis.call("ZADD", volatile.LATER, 1, packed)
    task = Task(recorder.note, is_volatile=True)
    await queue.enqueue(task, {"number": 1}, delay_s=0.01)
    await start_worker(task)
    await recorder.wait_calls(1)
    assert await redis.call("ZCARD", volatile.LATER) == 0

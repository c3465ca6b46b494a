"""Claims, leases, entries of dead workers, and clocks that jump: which worker has a job, and when another may take
it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from embedded.redis import RedisServer
from jobs.engine import consumer_group, streams
from jobs.engine.consumer_group import GROUP
from jobs.engine.queue import Queue
from jobs.engine.relay import Relay
from jobs.engine.streams import JobEntry, JobStream
from jobs.engine.task import Task
from store import jobs
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.jobs.jobs_world import RecordingTask, ended, no_jobs
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]
WORK = JobStream("note", 1)

SOON_S = 5.0
"""Much less than any lease."""


async def enqueue(pool: Pool, *numbers: int) -> list[int]:
    rows = await pool.fetch(
        "select enqueue('note', jsonb_build_object('number', n)) from unnest(%s::int[]) n", (list(numbers),)
    )
    return [row[0] for row in rows]


async def test_many_entries_of_the_dead_are_taken_over_one_look_after_the_other(
    pool: Pool, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """Many entries with each call: after an outage there are thousands."""
    await consumer_group.make_groups(redis, [WORK])
    await streams.add(redis, [(WORK, streams.volatile_fields(f"v{n:016x}", b'{"number":1}')) for n in range(200)])
    [[_, entries]] = await redis.call("XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 200, "STREAMS", WORK.name, ">")
    ids = [id for id, _ in entries]
    await redis.call("XCLAIM", WORK.name, GROUP, "dead", 0, *ids, "IDLE", 60_000, "JUSTID")
    began = trio.current_time()
    await start_worker(Task(recorder.note, is_volatile=True))
    await recorder.wait_calls(200)
    assert trio.current_time() - began < 3 * SOON_S
    assert {attempt for _, attempt, _ in recorder.calls} == {2}


async def test_an_entry_of_a_job_that_another_worker_has_goes_and_the_job_comes_back_if_that_one_dies(
    pool: Pool, queue: Queue, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """It would count against its task's limit for ten seconds, and workers would take it over again and again."""
    [job] = await enqueue(pool, 1)
    await pool.fetch(
        "update jobs set is_handed = true, attempt = 1, due = clock_timestamp() + interval '60 s',"
        " claimed_by = 'other', claimed_until = clock_timestamp() + interval '1.5 s'"
    )
    await streams.add(redis, [(WORK, streams.durable_fields(job))])
    task = Task(recorder.note, concurrency=1, keep_result_s=60)
    began = trio.current_time()
    await start_worker(task)
    assert await ended(queue, await queue.enqueue(task, {"number": 2})) == "done"
    assert await ended(queue, str(job)) == "done"
    assert trio.current_time() - began < 1.5 + SOON_S
    assert recorder.calls[-1] == (str(job), 2, 1)


async def test_a_job_that_runs_while_redis_forgets_is_due_as_soon_as_its_worker_is_dead(pool: Pool) -> None:
    """Its entry is gone, so no worker can take it over."""
    running, waiting, delayed = await enqueue(pool, 1, 2, 3)
    await pool.fetch("update jobs set due = clock_timestamp() + interval '60 s'")
    await pool.fetch("update jobs set is_handed = true where id <> %s", (delayed,))
    await pool.fetch(
        "update jobs set claimed_by = 'x', claimed_until = clock_timestamp() + interval '8 s' where id = %s", (running,)
    )
    await jobs.release_all(pool)
    rows = await pool.fetch("select id, round(extract(epoch from due - clock_timestamp()))::int from jobs order by id")
    assert rows == [(running, 8), (waiting, 0), (delayed, 60)]
    assert [due.id for due in await jobs.relay(pool, [("note", 1, 10)])] == [waiting]


async def test_a_worker_does_not_claim_cancelled_jobs_or_failed_jobs_before_they_are_due(pool: Pool) -> None:
    cancelled, failed, lost = await enqueue(pool, 1, 2, 3)
    await pool.fetch("update jobs set is_cancelled = true where id = %s", (cancelled,))
    await pool.fetch("update jobs set due = clock_timestamp() + interval '9 s' where id = %s", (failed,))
    claimed = await jobs.claim(pool, [lost, failed, cancelled, 10**9], "worker")
    assert isinstance(claimed.pop(lost), jobs.Claimed)
    assert claimed == {cancelled: "gone", failed: "early", 10**9: "gone"}
    assert await jobs.claim(pool, [lost], "other") == {lost: "busy"}
    assert await pool.fetch("select id, attempt from jobs order by id") == [(failed, 0), (lost, 1)]


async def test_a_worker_that_lost_a_job_can_say_that_it_is_done_and_no_more(pool: Pool) -> None:
    [job] = await enqueue(pool, 1)
    await jobs.claim(pool, [job], "first")
    await pool.fetch("update jobs set claimed_until = clock_timestamp()")
    await jobs.claim(pool, [job], "second")
    for ending in (
        jobs.Ending("retry", 60, "no"),
        jobs.Ending("dead", 0, "no"),
        jobs.Ending("lost", 0, "no"),
        jobs.Ending("snoozed", 60),
        jobs.Ending("cancelled"),
    ):
        await jobs.end(pool, [jobs.RunEnd(job, 1, ending)], "first")
    assert await pool.fetch("select claimed_by, attempt from jobs") == [("second", 2)]
    assert await pool.fetch("select * from dead_jobs") == []
    await jobs.end(pool, [jobs.RunEnd(job, 1, jobs.Ending("done"))], "first")
    assert await no_jobs(pool)
    # The worker that ran it last finds no row to write.
    await jobs.end(pool, [jobs.RunEnd(job, 1, jobs.Ending("retry", 60, "no"))], "second")
    assert await no_jobs(pool)


async def test_postgres_clock_that_goes_back_an_hour_holds_up_nothing(pool: Pool) -> None:
    """The test moves the rows an hour ahead, which has the same effect."""
    running, handed, waiting, delayed, failed = await enqueue(pool, 1, 2, 3, 4, 5)
    later = "clock_timestamp() + interval"
    await pool.fetch(f"update jobs set due = {later} '30 s' where id = %s", (delayed,))
    await pool.fetch(
        f"update jobs set is_handed = true, due = {later} '60 s' where id = any(%s::bigint[])", ([running, handed],)
    )
    await pool.fetch(f"update jobs set claimed_until = {later} '8 s', claimed_by = 'x' where id = %s", (running,))
    await pool.fetch(
        "update jobs set created = created + interval '1 hour', due = due + interval '1 hour',"
        " claimed_until = claimed_until + interval '1 hour' where id <> %s",
        (failed,),
    )
    await pool.fetch(f"update jobs set due = {later} '45 s' where id = %s", (failed,))
    waits = (
        "select id, is_handed, round(extract(epoch from due - clock_timestamp()))::int,"
        " round(extract(epoch from claimed_until - clock_timestamp()))::int from jobs order by id"
    )
    expected = [
        (running, True, 8, 8),
        (handed, False, 0, None),
        (waiting, False, 0, None),
        (delayed, False, 30, None),
        (failed, False, 45, None),
    ]
    for _ in range(2):
        await jobs.shorten_leases(pool)
        assert await pool.fetch(waits) == expected


async def test_a_worker_that_starts_after_the_clock_went_back_finds_what_waits(
    pool: Pool, queue: Queue, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    await enqueue(pool, 1)
    await pool.fetch("update jobs set created = created + interval '1 hour', due = due + interval '1 hour'")
    await start_worker(Task(recorder.note))
    await recorder.wait_calls(1)


@pytest.mark.usefixtures("_hurried")
async def test_a_worker_notices_that_postgres_clock_went_back(
    pool: Pool, redis: Redis, log_output: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((10_000_000, 10_000_000 - 3_600_000, 10_000_000 + 3_600_000))
    seen = trio.Event()

    async def next_due(pool: Pool, tasks: list[str]) -> tuple[int, None]:
        if (now_ms := next(times, None)) is None:
            seen.set()
            await trio.sleep_forever()
        return now_ms, None

    monkeypatch.setattr(jobs, "next_due", next_due)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Relay(pool, redis, {}).run)
        await seen.wait()
        nursery.cancel_scope.cancel()
    assert [line["event"] for line in log_output].count("clock_of_postgres_went_back") == 1


async def test_rates_are_kept_when_redis_clock_goes_back(redis: Redis) -> None:
    """Starts that lie in the future do not count: otherwise no job would begin until that time."""
    limits = {"note": consumer_group.TaskLimits(None, 2, 60)}
    await consumer_group.make_groups(redis, [WORK])
    await streams.add(redis, [(WORK, streams.durable_fields(job)) for job in range(1, 9)])

    async def taken() -> list[JobEntry]:
        return (await consumer_group.take(redis, "worker", limits, 10)).entries

    assert len(await taken()) == 2
    assert await taken() == []
    times = await redis.call("LRANGE", "alo:{jobs}:rate:note", 0, -1)
    await redis.pipeline([("LSET", "alo:{jobs}:rate:note", n, int(each) + 3_600_000) for n, each in enumerate(times)])
    assert len(await taken()) == 2
    assert await taken() == []


async def test_several_workers_find_redis_flushed_at_the_same_time(
    pool: Pool, queue: Queue, redis: Redis, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    """Each makes the groups again, and only one hands all jobs in again."""
    task = Task(recorder.note)
    for _ in range(4):
        await start_worker(task)
    for round_ in range(4):
        await queue.enqueue_many(task, [{"number": round_ * 10 + number} for number in range(10)])
        await redis.call("FLUSHALL")
        await wait_until(lambda: no_jobs(pool), "all have ended")
    assert set(recorder.numbers) == set(range(40))


@pytest.mark.usefixtures("_quick_take_over")
async def test_a_redis_that_does_not_answer_costs_a_worker_none_of_its_claims(
    pool: Pool, own_redis: RedisServer, recorder: RecordingTask, start_worker: StartWorker
) -> None:
    worker, _ = await start_worker(Task(recorder.note), redis=own_redis.url)
    await worker.wait_ready()
    recorder.gate = trio.Event()
    await enqueue(pool, 1)
    await recorder.wait_calls(1)
    own_redis.pause()
    try:
        [(until,)] = await pool.fetch("select clock_timestamp() + interval '1.5 s'")

        async def claimed_again() -> list[Any]:
            return await pool.fetch("select 1 from jobs where claimed_until > %s", (until,))

        await wait_until(claimed_again, "the claim is renewed all the while", timeout_s=4)
    finally:
        own_redis.resume()
    recorder.gate.set()
    await wait_until(lambda: no_jobs(pool), "it has ended")
    assert len(recorder.calls) == 1

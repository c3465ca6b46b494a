"""No job is lost with a worker, with Redis, or with a bad entry (P8)."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from client.http import Credentials
from embedded.redis import RedisServer
from jobs.engine import consumer_group, streams
from jobs.engine.consumer_group import GROUP
from jobs.engine.streams import JobStream
from store import jobs as jobs_module
from store import outbox
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.faults import flush_redis
from tests.jobs.jobs_world import Hook, outbox_empty, outbox_rows, send_message
from tests.people import new_direct
from tests.processes import Process, open_cluster
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]
NOTICES = JobStream("offline_notice", 1)
STREAM = NOTICES.name
NOTIFY = JobStream("notify", 1).name


async def send_one(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, _ = people
    await send_message(pool, await new_direct(pool, alice, bob), alice.user)


async def stream_empty(redis: Redis) -> None:
    async def empty() -> bool:
        for stream in (STREAM, NOTIFY):
            length, pending = await redis.pipeline([("XLEN", stream), ("XPENDING", stream, GROUP)])
            if length or pending[0]:
                return False
        return True

    await wait_until(empty, "nothing is left in the queue, and nothing pending")


@asynccontextmanager
async def hanging_worker(
    pool: Pool, redis_url: str, hook: Hook, people: list[Credentials]
) -> AsyncGenerator[Process, None]:
    """The process of a worker whose call of the webhook gets no answer."""
    settings = {"OFFLINE_NOTICE_URL": hook.url, "OFFLINE_NOTICE_AFTER_S": "0.1"}
    async with open_cluster(pool.url, redis_url, **settings) as cluster:
        worker = await cluster.start_worker()
        hook.hanging = trio.Event()
        await send_one(pool, people)
        await hook.wait_calls(1)
        yield worker


@pytest.mark.usefixtures("_quick_take_over")
async def test_worker_killed_while_the_webhook_hangs_is_succeeded_by_another(
    pool: Pool, redis_url: str, hook: Hook, people: list[Credentials], start_worker: StartWorker
) -> None:
    """A real SIGKILL; within the time after which entries are taken over."""
    async with hanging_worker(pool, redis_url, hook, people) as victim:
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        hook.hanging = None
        assert await outbox_rows(pool) == 1
        await start_worker()
        await hook.wait_calls(2)
        await outbox_empty(pool)
    assert len(set(hook.got)) == 1


async def test_worker_that_is_told_to_stop_ends_well_within_its_time_and_answers_for_what_runs(
    pool: Pool, redis_url: str, hook: Hook, people: list[Credentials]
) -> None:
    async with hanging_worker(pool, redis_url, hook, people) as worker:
        assert hook.hanging is not None
        worker.signal(signal.SIGTERM)
        await worker.wait_event("told_to_stop")
        hook.hanging.set()
        with trio.fail_after(10):
            assert await worker.wait() == 0
    assert await outbox_rows(pool) == 0
    assert len(hook.got) == 1


@pytest.mark.usefixtures("_quick_take_over")
async def test_job_of_a_worker_that_was_cut_off_is_taken_over(
    pool: Pool, hook: Hook, people: list[Credentials], start_worker: StartWorker, redis: Redis
) -> None:
    hook.hanging = trio.Event()
    _, victim = await start_worker()
    await send_one(pool, people)
    await hook.wait_calls(1)
    victim.cancel()
    hook.hanging = None
    await start_worker()
    await outbox_empty(pool)
    await stream_empty(redis)
    assert len(hook.got) == 2


@pytest.mark.usefixtures("_quick_take_over")
async def test_more_jobs_of_the_dead_than_one_look_finds_are_all_taken_over(
    pool: Pool, start_worker: StartWorker, redis: Redis
) -> None:
    """Trimmed entries, which Redis keeps as pending ids only, do no harm."""
    await consumer_group.make_groups(redis, [NOTICES])
    await streams.add(redis, [(NOTICES, streams.durable_fields(job)) for job in range(1, 201)])
    await redis.call("XREADGROUP", "GROUP", GROUP, "dead", "COUNT", 200, "STREAMS", STREAM, ">")
    gone = await redis.call("XRANGE", STREAM, "-", "+", "COUNT", 20)
    await redis.call("XDEL", STREAM, *[entry for entry, _ in gone])
    await start_worker()
    await stream_empty(redis)


NO_JOBS: Final = (
    ("j", "x"),
    ("j", ""),
    ("other", "1"),
    ("j", str(2**70)),
    ("j", "-1"),
    ("v", "x"),
    ("v", "x", "p", "{}", "a", "many"),
    ("", ""),
)


@pytest.mark.parametrize("when", ["new", "pending"])
@pytest.mark.usefixtures("_quick_take_over")
async def test_entries_that_are_not_jobs_hold_up_no_job(
    pool: Pool, hook: Hook, people: list[Credentials], start_worker: StartWorker, redis: Redis, when: str
) -> None:
    """As new entries or as those of a dead worker: the worker survives each, and deletes it."""
    await consumer_group.make_groups(redis, [NOTICES])
    for fields in NO_JOBS:
        await redis.call("XADD", STREAM, "*", *fields)
    if when == "pending":
        await redis.call("XREADGROUP", "GROUP", GROUP, "dead", "STREAMS", STREAM, ">")
    await send_one(pool, people)
    await start_worker()
    await outbox_empty(pool)
    assert len(hook.got) == 1
    await stream_empty(redis)


async def test_redis_flushed_between_relay_and_take_loses_nothing(
    pool: Pool, redis_url: str, hook: Hook, people: list[Credentials], start_worker: StartWorker, redis: Redis
) -> None:
    """The worker that finds Redis empty has all jobs handed in again, before their leases end."""
    await send_one(pool, people)
    await outbox.decide(pool, window_s=0)
    [due] = await jobs_module.relay(pool, [("offline_notice", 1, 10)])
    await streams.add(redis, [(NOTICES, streams.durable_fields(due.id))])
    flush_redis(redis_url)
    assert await jobs_module.relay(pool, [("offline_notice", 1, 10)]) == []
    await start_worker()
    await outbox_empty(pool)
    assert len(hook.got) == 1


async def test_entry_that_redis_lost_alone_is_handed_in_after_its_lease(
    pool: Pool,
    hook: Hook,
    people: list[Credentials],
    start_worker: StartWorker,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a crash of Redis, which has not written its last second to disk."""
    monkeypatch.setattr(jobs_module, "LEASE_S", 0.5)
    await redis.call("SET", consumer_group.EPOCH, "the same")
    await send_one(pool, people)
    await outbox.decide(pool, window_s=0)
    assert len(await jobs_module.relay(pool, [("offline_notice", 1, 10)])) == 1
    await start_worker()
    await outbox_empty(pool)
    assert len(hook.got) == 1


async def test_worker_that_waits_while_redis_is_flushed_makes_the_group_again(
    pool: Pool, redis_url: str, hook: Hook, people: list[Credentials], start_worker: StartWorker, redis: Redis
) -> None:
    """Its read is blocked on a stream that is gone. Jobs handed in before the new group exists count."""
    await start_worker(notice_pauses_s="0.05")

    async def blocked() -> bool:
        return b"blocked_clients:1" in await redis.call("INFO", "clients")

    for _ in range(3):
        await wait_until(blocked, "the worker waits for a job")
        flush_redis(redis_url)
        await send_one(pool, people)
        await outbox_empty(pool)
    assert len(hook.got) == 3


async def test_redis_away_while_relaying_is_waited_for(
    pool: Pool, own_redis: RedisServer, hook: Hook, people: list[Credentials], start_worker: StartWorker
) -> None:
    """The notice comes soon after Redis is back, not only at the end of a useless lease."""
    worker, _ = await start_worker(redis=own_redis.url)
    await worker.wait_ready()
    await trio.to_thread.run_sync(own_redis.kill)
    await send_one(pool, people)

    async def decided() -> bool:
        return bool(await pool.fetch("select 1 from jobs where task = 'offline_notice'"))

    await wait_until(decided, "the window has ended")
    await trio.to_thread.run_sync(own_redis.start)
    await outbox_empty(pool)
    assert len(hook.got) == 1


async def test_redis_without_memory_holds_the_notice_up_and_no_longer(
    pool: Pool,
    own_redis: RedisServer,
    its_redis: Redis,
    hook: Hook,
    people: list[Credentials],
    start_worker: StartWorker,
    log_output: list[dict[str, Any]],
) -> None:
    """XADD fails then, and reads go on: the row stays, and the relay tries it again."""
    worker, _ = await start_worker(redis=own_redis.url)
    await worker.wait_ready()
    await its_redis.call("CONFIG", "SET", "maxmemory", 1)
    await send_one(pool, people)

    async def decided() -> bool:
        return bool(await pool.fetch("select 1 from jobs where task = 'offline_notice'"))

    await wait_until(decided, "the window has ended")

    async def refused() -> bool:
        return any(line["event"] == "jobs_wait_in_postgres" for line in log_output)

    await wait_until(refused, "it was handed over in vain, loudly")
    await its_redis.call("CONFIG", "SET", "maxmemory", 0)
    await outbox_empty(pool)
    assert len(hook.got) == 1


async def test_postgres_connections_lost_under_a_worker_cost_nothing(
    pool: Pool, hook: Hook, people: list[Credentials], start_worker: StartWorker, redis: Redis
) -> None:
    """Terminated while the webhook is called: the ending is written with another connection.

    If the worker does not notice in time that a connection was lost, it cannot note that the notice was taken: the job
    runs again, and the receiver knows the notice by its number.
    """
    hook.hanging = trio.Event()
    await start_worker()
    await send_one(pool, people)
    await hook.wait_calls(1)
    await pool.fetch(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where pid <> pg_backend_pid() and datname = current_database()"
    )
    hook.hanging.set()
    await outbox_empty(pool)
    await stream_empty(redis)
    assert len({json.loads(text)["notice"] for text in hook.got}) == 1


async def test_worker_that_leaves_keeps_its_pending_entries(redis: Redis) -> None:
    """A deleted consumer takes its pending entries with it: no worker could take them over."""
    await consumer_group.make_groups(redis, streams.streams_of(["offline_notice"]))
    await streams.add(redis, [(NOTICES, streams.durable_fields(1))])
    [[_, [(entry, _)]]] = await redis.call("XREADGROUP", "GROUP", GROUP, "worker", "STREAMS", STREAM, ">")
    await consumer_group.leave(redis, "worker", ["offline_notice"])
    assert (await redis.call("XPENDING", STREAM, GROUP))[0] == 1
    await consumer_group.finish(redis, [(NOTICES, entry)])
    await consumer_group.leave(redis, "worker", ["offline_notice"])
    assert await redis.call("XINFO", "CONSUMERS", STREAM, GROUP) == []

"""What the release before the queue has left in Postgres is delivered by this one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from typing import Any

import psycopg
import pytest
import trio
from jobs_helpers import Hook, outbox_empty

from embedded.services import Services
from store import jobs
from store.migrate import migrate
from store.pool import Pool
from store.postgres import uuid
from tests.conftest import database_of

StartWorker = Callable[..., Awaitable[Any]]

BEFORE = 6
"""The last migration of a release that kept notices in the outbox."""

_numbers = count(1)


@pytest.fixture
async def older(shared_services: Services) -> AsyncGenerator[Pool, None]:
    """A database as that release has it."""
    postgres, name = shared_services.postgres, f"older_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        await migrate(database_of(postgres, name), upto=BEFORE)
        pool = Pool(database_of(postgres, name), 3)
        yield pool
        pool.close()
        connection.execute(f"drop database {name} with (force)")


async def leave_notice(pool: Pool, *users: bytes) -> None:
    """As that release does at the end of a debounce window, or after a failed attempt."""
    for user in users:
        await pool.fetch(
            "insert into outbox (task, user_id, due) values ('offline_notice', %s, clock_timestamp())"
            " on conflict (user_id) where task = 'offline_notice' do update set version = outbox.version + 1",
            (uuid(user),),
        )


async def somebody(pool: Pool, name: str) -> bytes:
    """A user with a message that is not delivered, written as that release's tables are."""
    [(user,)] = await pool.fetch(
        "insert into users (id, username, password_hash) values (gen_random_uuid(), %s, 'x') returning id", (name,)
    )
    [(talk,)] = await pool.fetch(
        "insert into conversations (id, kind, name, last_seq) values (gen_random_uuid(), 'group', 'x', 1) returning id"
    )
    await pool.fetch("insert into participants (conversation_id, user_id) values (%s, %s)", (uuid(talk), uuid(user)))
    return bytes(user)


async def test_notices_in_the_outbox_and_dead_ones_are_taken_over(
    older: Pool, hook: Hook, start_worker: StartWorker
) -> None:
    """Those that were there, and those that a worker of that release adds while it is still about."""
    bob, carol, dave = [await somebody(older, name) for name in ("bob", "carol", "dave")]
    await leave_notice(older, bob)
    await older.fetch(
        "insert into dead_jobs (id, task, user_id, attempts, reason)"
        " values (1, 'offline_notice', %s, 12, 'NotifyError: status 500')",
        (uuid(dave),),
    )
    with trio.fail_after(30):
        assert await migrate(older.url)
    assert await older.fetch("select task from jobs") == [("offline_notice",)]
    assert await older.fetch("select * from outbox") == []
    await leave_notice(older, bob, carol)
    await start_worker(database=older.url)
    await outbox_empty(older)
    assert set(hook.users) == {bob, carol}
    assert await jobs.replay(older, task="offline_notice", limit=10) == 1
    await hook.wait_calls(len(hook.got) + 1)
    await outbox_empty(older)
    assert set(hook.users) == {bob, carol, dave}
    assert await older.fetch("select * from dead_jobs") == []


async def test_dead_jobs_of_both_releases_have_numbers_of_their_own(older: Pool) -> None:
    """That release gives a dead notice its number in the outbox, while this one's workers bury jobs already."""
    await leave_notice(older, bytes(16))
    await migrate(older.url)
    await leave_notice(older, bytes(range(16)))
    [(newest,)] = await older.fetch("select max(id) from outbox")
    [(job,)] = await older.fetch("select enqueue('offline_notice', '{}')")
    assert job > newest + 100_000

"""Periodic tasks that run twice at the same time, as after a lost heartbeat, count each item once."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from jobs.tasks import batches
from jobs.tasks import orphans as orphans_module
from jobs.tasks.orphans import Orphans
from store import analytics, emails, jobs, messages, outbox, retention, revisions, tokens
from store.objects.folder import Folder
from store.postgres.driver import connected
from store.postgres.pool import Pool
from tests.jobs.jobs_world import a_job

AT_ONCE = 4
COUNT = 300

USERS = f"""
insert into users (id, username, password_hash)
    select md5('u' || n)::uuid, 'user' || n, 'x' from generate_series(1, {COUNT}) n;
"""


class Work(NamedTuple):
    """One kind of work, on `COUNT` items.

    :ivar fill: makes the items.
    :ivar some: handles some items, and returns how many.
    """

    fill: str
    some: Callable[[Pool], Awaitable[int]]


async def clear(pool: Pool) -> int:
    return sum(
        [await retention.clear(pool, each.conversation, limit=3) for each in await retention.uncleared(pool, limit=9)]
    )


async def move_floors(pool: Pool) -> int:
    return (await retention.move_floors(pool, days=0, archives=False, limit=7)).moved


async def ask_digests(pool: Pool) -> int:
    return (await emails.ask_digests(pool, limit=7))[0]


async def decide(pool: Pool) -> int:
    return (await outbox.decide(pool, window_s=0))[0]


WORK = {
    "messages deleted": Work(
        f"""{USERS}
        insert into conversations (id, kind, name, last_seq, floor_seq)
            values (md5('c')::uuid, 'group', 'g', {COUNT}, {COUNT});
        insert into participants (conversation_id, user_id) values (md5('c')::uuid, md5('u1')::uuid);
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
            select md5('c')::uuid, n, gen_random_uuid(), md5('u1')::uuid, now(), 'text', 'x'
            from generate_series(1, {COUNT}) n;
        update expiries set is_cleared = false, is_announced = true;""",
        clear,
    ),
    "floors moved": Work(
        f"""{USERS}
        insert into conversations (id, kind, name, last_seq, lifetime_s)
            select md5('c' || n)::uuid, 'group', 'g', 2, 60 from generate_series(1, {COUNT}) n;
        insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
            select c.id, seq, gen_random_uuid(), md5('u1')::uuid, now() - interval '1 day', 'text', 'x'
            from conversations c, generate_series(1, 2) seq;
        update expiries set oldest = now() - interval '1 day', due = now() - interval '1 hour';""",
        move_floors,
    ),
    "keys of sends looked at": Work(
        f"""insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
            select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'x', n, gen_random_uuid(),
                   now() - interval '100 days' + make_interval(secs => n)
            from generate_series(1, {COUNT}) n;""",
        lambda pool: messages.forget_temp_ids(pool, limit=7),
    ),
    "changes forgotten": Work(
        f"""insert into revisions (conversation_id, seq, at)
            select gen_random_uuid(), n, now() - interval '200 days' from generate_series(1, {COUNT}) n;""",
        lambda pool: revisions.forget_revisions(pool, limit=7),
    ),
    "dead jobs forgotten": Work(
        f"""insert into dead_jobs (id, task, payload, attempts, reason, died)
            select n, 'digest', '{{}}', 1, 'x', now() - interval '200 days' from generate_series(1, {COUNT}) n;""",
        lambda pool: jobs.forget_dead(pool, days=90, limit=7),
    ),
    "tokens forgotten": Work(
        f"""{USERS}
        insert into devices (id, user_id, name, family_hash, token_hash, expires)
            select gen_random_uuid(), u.id, 'd', h, h, now() - interval '900 days'
            from users u, sha256(uuid_send(u.id)) h;""",
        lambda pool: tokens.forget_tokens(pool, limit=7),
    ),
    "activity forgotten": Work(
        f"""insert into activity select (now() - interval '200 days')::date, gen_random_uuid()
            from generate_series(1, {COUNT}) n;
        insert into progress values ('analytics', now() - interval '1 day');""",
        analytics.forget_activity,
    ),
    "messages decided": Work(
        f"""{USERS}
        insert into conversations (id, kind, name, last_seq) values (md5('c')::uuid, 'group', 'g', {COUNT});
        insert into outbox (conversation_id, seq) select md5('c')::uuid, n from generate_series(1, {COUNT}) n;""",
        decide,
    ),
    "digests looked at": Work(
        f"""{USERS}
        insert into emails (user_id, address, verified, wants_digest, next_digest, seed, verification_hash,
                            verification_expires, unsubscribe_hash)
            select u.id, u.username || '@example.org', now(), true, now() - interval '1 minute', u.id,
                   sha256(uuid_send(u.id)), now(), sha256(uuid_send(u.id)) from users u;""",
        ask_digests,
    ),
}


async def until_none(pool: Pool, some: Callable[[Pool], Awaitable[int]]) -> int:
    done = 0
    while count := await some(pool):
        done += count
    return done


async def counted_at_once(run: Callable[[], Awaitable[int]]) -> int:
    """The sum that several runs at the same time have counted, plus one run after them for the rest."""
    counts: list[int] = []

    async def count() -> None:
        counts.append(await run())

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(count)
    await count()
    return sum(counts)


@pytest.mark.parametrize("name", WORK)
async def test_concurrent_runs_of_a_task_count_each_row_once(
    pool: Pool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "FORGET_BATCH", 7)
    monkeypatch.setattr(outbox, "BATCH", 7)
    work = WORK[name]
    async with connected(pool.url) as connection:
        await connection.script(work.fill)
    assert await counted_at_once(lambda: until_none(pool, work.some)) == COUNT
    assert await work.some(pool) == 0


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    """Objects that no attachment knows of, from yesterday."""
    folder = Folder(tmp_path)
    await folder.start()
    for n in range(60):
        await folder.put(f"attachments/{n:03}", b"x", "image/jpeg")
        os.utime(tmp_path / f"attachments/{n:03}", (time.time() - 25 * 3600,) * 2)
    return folder


ATTACHMENTS = f"""
{USERS}
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, part_digests, created)
    select gen_random_uuid(), u.id, 'attachments/' || u.username, 1, 'image/jpeg', sha256(''), sha256(''),
           now() - interval '2 days'
    from users u;
"""


@pytest.mark.parametrize(
    ("task", "fill", "event", "field", "count"),
    [
        ("orphaned_attachments", ATTACHMENTS, "attachments_removed", "attachments", COUNT),
        ("orphaned_objects", "select", "objects_removed", "objects", 60),
    ],
)
async def test_files_that_are_removed_by_several_runs_at_once_are_counted_once(
    pool: Pool,
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    log_output: list[dict[str, Any]],
    task: str,
    fill: str,
    event: str,
    field: str,
    count: int,
) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)
    monkeypatch.setattr(orphans_module, "BATCH", 7)
    monkeypatch.setattr(orphans_module, "PAGE", 7)
    async with connected(pool.url) as connection:
        await connection.script(fill)

    async def run() -> int:
        await getattr(Orphans(pool, folder), task)(a_job(task))
        return 0

    await counted_at_once(run)
    assert sum(line[field] for line in log_output if line["event"] == event) == count

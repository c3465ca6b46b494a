"""Plans of the hot statements: no table is read from end to end, whatever it held when the plan was made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
from store_helpers import a_message

from store import (
    accounts,
    conversations,
    emails,
    jobs,
    last_seen,
    members,
    messages,
    notifiers,
    orphans,
    outbox,
    retention,
    revisions,
)
from store.errors import Refused
from store.marks import Mark, mark
from store.members import MembersCache
from store.messages import send
from store.objects import Entry
from store.pool import Pool
from store.postgres import connected
from store.sync import sync

WAY = notifiers.Way(None, None, None, None)
LAST = notifiers.LastNotice("1-1", 0, 1, 1, 0, 0, True)

CONVERSATIONS = 5_000
MESSAGES = 50_000

FILL = f"""
insert into users (id, username, password_hash)
    select md5('u' || n)::uuid, 'user' || n, 'x' from generate_series(0, {CONVERSATIONS // 5 - 1}) n;
insert into devices (id, user_id, name, token_hash)
    select md5('d' || n)::uuid, md5('u' || n)::uuid, 'd', sha256(convert_to(n::text, 'UTF8'))
    from generate_series(0, {CONVERSATIONS // 5 - 1}) n;
insert into notifiers (id, user_id, kind, target, target_hash)
    select md5('n' || n)::uuid, md5('u' || n % {CONVERSATIONS // 5})::uuid, 'webhook',
           '{{"kind": "webhook", "url": "x"}}', sha256(convert_to(n::text, 'UTF8'))
    from generate_series(0, {CONVERSATIONS - 1}) n;
insert into jobs (task, key) select 'other', n from generate_series(0, {CONVERSATIONS - 1}) n;
insert into conversations (id, kind, name, last_seq)
    select md5('c' || n)::uuid, 'group', 'g', {MESSAGES // CONVERSATIONS}
    from generate_series(0, {CONVERSATIONS - 1}) n;
insert into participants (conversation_id, user_id)
    select md5('c' || n)::uuid, md5('u' || (n + k * 7) % {CONVERSATIONS // 5})::uuid
    from generate_series(0, {CONVERSATIONS - 1}) n, generate_series(0, 1) k;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
    select md5('c' || n % {CONVERSATIONS})::uuid, n / {CONVERSATIONS} + 1, gen_random_uuid(),
           md5('u' || n % {CONVERSATIONS // 5})::uuid, clock_timestamp() - interval '1 day', 'text', 'x'
    from generate_series(0, {MESSAGES - 1}) n;
insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    select sender_id, gen_random_uuid(), conversation_id, 'x', seq, id, created from messages;
insert into revisions (conversation_id, seq, at) select conversation_id, seq, created from messages;
insert into hidden (user_id, conversation_id, seq, at) select sender_id, conversation_id, seq, created from messages;
insert into emails (user_id, address, verified, wants_digest, next_digest, seed, verification_hash,
                    verification_expires, unsubscribe_hash)
    select id, username || '@example.org', now(), true, now() + interval '1 day', id, sha256(uuid_send(id)), now(),
           sha256(uuid_send(id)) from users;
insert into attachments (id, user_id, object_key, size_bytes, mime_type, conversation_id, seq)
    select m.id, m.sender_id, 'attachments/' || m.id, 1, 'image/jpeg', m.conversation_id, m.seq
    from messages m where m.seq = 1;
insert into outbox (conversation_id, seq) select conversation_id, seq from messages order by created;
insert into read_windows (conversation_id, seq, created) select conversation_id, seq, created from messages;
insert into notices (user_id, notifier_id, name, told, times, unread, delivered, read, look)
    select user_id, id, '1-1', now(), 1, 1, 0, 0, now() + interval '1 hour' from notifiers;
update conversations set lifetime_s = 60 where id < '20000000-0000-0000-0000-000000000000';
update expiries e
    set oldest = e.oldest - interval '1 day', due = e.oldest - interval '1 day' + make_interval(secs => c.lifetime_s)
    from conversations c where c.id = e.conversation_id;
"""


@pytest.fixture
def single(database_url: str) -> Iterator[Pool]:
    """One connection, so that its prepared statements and their plans are those that are looked at."""
    pool = Pool(database_url, 1)
    yield pool
    pool.close()


async def fill(pool: Pool) -> None:
    async with connected(pool.url) as connection:
        await connection.script(FILL)


async def rows_read_in_sequence(pool: Pool) -> dict[str, int]:
    await pool.fetch("select pg_stat_force_next_flush()")
    await pool.fetch("select 1")
    rows = await pool.fetch("select relname, seq_tup_read from pg_stat_user_tables where schemaname = 'public'")
    return dict(rows)


class Traffic:
    """The hot statements, on users and conversations that change from turn to turn."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.cache = MembersCache()
        self.cursors: dict[bytes, bytes] = {}
        self.turn = 0

    async def all_once(self) -> None:
        [ids] = await self.pool.fetch(
            "select md5('u' || %(n)s)::uuid, md5('c' || %(n)s)::uuid, md5('c' || %(m)s)::uuid",
            {"n": self.turn % 1000, "m": self.turn % 1000 + 1000},
        )
        for statement in self.statements(*ids):
            with suppress(Refused):  # on empty tables, or not this user's
                await statement()
        self.turn += 1

    async def sync(self, user: bytes) -> None:
        """As on a device that is new, then that has missed something."""
        first = await sync(self.pool, user, None)
        await sync(self.pool, user, self.cursors.get(user, first.cursor))
        self.cursors[user] = first.cursor

    async def clear(self) -> None:
        """Of conversations whose messages' time has come, a batch each."""
        await retention.note_announced(
            self.pool, [each.settings.conversation for each in await retention.unannounced(self.pool, limit=9)]
        )
        for each in await retention.uncleared(self.pool, limit=2):
            await retention.below(self.pool, each.conversation, limit=4)
            await retention.clear(self.pool, each.conversation, limit=4)

    def statements(self, user: bytes, here: bytes, there: bytes) -> list[Callable[[], Awaitable[object]]]:
        pool = self.pool
        return [
            lambda: send(pool, self.cache, [a_message(here, user), a_message(there, user)]),
            lambda: send(pool, self.cache, [a_message(here, user) for _ in range(64)]),
            lambda: mark(pool, [[Mark(user, here, 5), Mark(user, there, 5)]]),
            lambda: messages.history(pool, user, here, limit=20),
            lambda: messages.history(pool, user, here, limit=20, after=2),
            lambda: messages.range_of(pool, here, after=2, upto=5, limit=10),
            lambda: messages.members(pool, here),
            lambda: messages.recent(pool, [user], ago_s=5),
            lambda: conversations.list_of(pool, user, limit=20),
            lambda: conversations.one(pool, user, here),
            lambda: accounts.device_by_token(pool, "token"),
            lambda: accounts.refresh_token(pool, user, "token", lifetime_s=60),
            lambda: accounts.devices_of(pool, user),
            lambda: accounts.revoked_since(pool, ago_s=1),
            lambda: members.watchable(pool, user, [user, here]),
            lambda: members.unwatchable(pool, [(user, here), (here, user)]),
            lambda: revisions.edit(pool, user, here, 1, 0, "text", b"x", None, None),
            lambda: revisions.delete_for_everyone(pool, user, here, 1),
            lambda: revisions.delete_for_me(pool, user, here, 2),
            lambda: revisions.revised_since(pool, [user], ago_s=5),
            lambda: revisions.hidden_from(pool, [user], here, first=1, last=5),
            lambda: self.sync(user),
            lambda: accounts.add_user(pool, f"new{self.turn}", "x"),
            lambda: emails.settings_of(pool, user),
            lambda: emails.verify(pool, "token"),
            lambda: emails.unsubscribe(pool, "token"),
            lambda: emails.verification(pool, user),
            lambda: emails.device_notice(pool, user, user),
            lambda: emails.ask_digests(pool, limit=10),
            lambda: emails.digest(pool, user),
            lambda: last_seen.touch(pool, [user, here]),
            lambda: outbox.decide(pool, window_s=3600),
            lambda: jobs.relay(pool, [("digest", priority, 10) for priority in range(3)]),
            lambda: jobs.claim(pool, [1, 2], "worker"),
            lambda: jobs.beat(pool, [1, 2], "worker"),
            lambda: jobs.settle(pool, [jobs.Settled(1, 1, jobs.Ending("done"))], "worker"),
            lambda: jobs.next_due(pool, ["digest", "offline_notice"]),
            lambda: jobs.state(pool, 1),
            lambda: jobs.dead(pool, task="digest"),
            lambda: retention.move_floors(pool, days=0.5, archives=False, limit=2),
            lambda: retention.unannounced(pool, limit=2),
            lambda: self.clear(),
            lambda: accounts.forget_tokens(pool, limit=10),
            lambda: orphans.doom(pool, limit=10),
            lambda: orphans.detach(pool, "", limit=10),
            lambda: orphans.unknown_objects(pool, [Entry(f"attachments/{self.turn}", 1, 1)]),
            lambda: outbox.end_read_windows(pool, window_s=3600),
            lambda: outbox.wait_for_read(pool, user, window_s=3600),
            lambda: notifiers.look(pool, user, read_after_s=60, to_deployment=True),
            lambda: notifiers.hand_out(pool, user, job=1, delays_s={None: 0, here: 60}),
            lambda: notifiers.took(pool, user, WAY, LAST),
            lambda: notifiers.withdrew(pool, user, None, "1-1"),
            lambda: notifiers.look_again(pool, limit=5),
            lambda: notifiers.look_soon(pool, [user, here]),
            lambda: notifiers.notifiers_of(pool, user),
            lambda: notifiers.add(pool, user, notifiers.FcmTarget("token"), device=user),
        ]


async def tables_read_in_sequence(pool: Pool, traffic: Traffic) -> set[str]:
    """Those of which a turn of all statements reads more than a few rows in sequence."""
    before = await rows_read_in_sequence(pool)
    for _ in range(8):
        await traffic.all_once()
    after = await rows_read_in_sequence(pool)
    return {table for table in after if after[table] - before[table] > 100}


async def test_full_tables_are_not_read_from_end_to_end(single: Pool) -> None:
    await fill(single)
    await single.fetch("analyze")
    assert await tables_read_in_sequence(single, Traffic(single)) == set()


async def test_what_grows_fastest_is_not_read_from_end_to_end_even_without_statistics(single: Pool) -> None:
    """As after an import, until autovacuum comes round."""
    await fill(single)
    found = await tables_read_in_sequence(single, Traffic(single))
    assert not found & {"messages", "participants", "sends", "attachments"}


async def test_plans_made_on_empty_tables_do_not_outlive_them(single: Pool) -> None:
    """Prepared statements, and those within send_batch(), keep their plans: begun empty, they are planned anew."""
    traffic = Traffic(single)
    for _ in range(8):
        await traffic.all_once()
    await fill(single)
    for _ in range(10):  # more than as many queries again
        await traffic.all_once()
    found = await tables_read_in_sequence(single, traffic)
    assert not found & {"messages", "participants", "sends", "attachments"}

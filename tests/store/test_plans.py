"""Plans of all statements: no table that grows is scanned, also if it was empty when the plan was made."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from importlib import resources
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from embedded.postgres import PostgresServer
from protocol import ids
from protocol.frames import Message
from store import (
    account_deletions,
    accounts,
    analytics,
    attachments,
    contacts,
    conversations,
    database_checks,
    devices,
    emails,
    envelopes,
    exported,
    exports,
    group_states,
    history_pages,
    inspected_messages,
    inspected_users,
    invitations,
    jobs,
    keys,
    last_seen,
    list_pages,
    marks,
    messages,
    notifiers,
    orphans,
    outbox,
    own_settings,
    participant_lists,
    participants,
    password_resets,
    profiles,
    quiet_hours,
    retention,
    revisions,
    security_events,
    sql,
    suspensions,
    tokens,
    undecryptable,
)
from store.avatars import NO_AVATAR
from store.device_uses import DeviceUses
from store.errors import (
    ControlConflict,
    DatabaseError,
    NotAParticipant,
    Refused,
    ResetUnknown,
    StaleDevices,
    TooManyExports,
)
from store.key_claims import KeyClaims
from store.latencies import add_latencies
from store.marks import Mark, mark
from store.messages import Committed, send
from store.objects.direct import OpenMultipart
from store.objects.interface import StoredObject
from store.objects.quotas import QUOTAS
from store.participant_lists import ParticipantsCache
from store.postgres.backends import end_backends, waits_of
from store.postgres.driver import Backend, PostgresConnection, connected, uuid
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.sync import RECEIPT_COUNTS, history_id, sync, take_cursor_snapshot
from tests.conftest import TEMPLATE, database_of
from tests.store.attachment_world import a_file
from tests.store.store_world import a_message

NOTIFIER_STATE = notifiers.NotifierState(None, None, None, None)
LAST = notifiers.LastNotice("1-1", 0, 1, 1, 0, 0, True)

CONVERSATIONS = 5_000
MESSAGES = 50_000

FILL = f"""
insert into users (id, username, password_hash, created)
    select md5('u' || n)::uuid, 'user' || n, 'x', now() - make_interval(hours => n)
    from generate_series(0, {CONVERSATIONS // 5 - 1}) n;
insert into devices (id, user_id, name, family_hash, token_hash)
    select md5('d' || n)::uuid, md5('u' || n)::uuid, 'd', h, h
    from generate_series(0, {CONVERSATIONS // 5 - 1}) n, sha256(convert_to(n::text, 'UTF8')) h;
update devices set identity = 'x', identity_revision = 1;
insert into key_pools (device_id, kind, stored, highest_number, history)
    select md5('d' || n)::uuid, 'otk', 20, 20, history_number() from generate_series(0, {CONVERSATIONS // 5 - 1}) n;
insert into one_time_keys (device_id, kind, place, numbers, keys)
    select p.device_id, p.kind, n, array[n], array['key'::bytea] from key_pools p, generate_series(1, 20) n;
insert into key_claims (user_id, device_id, since, claims)
    select md5('u' || n)::uuid, md5('d' || (n + 1) % 1000)::uuid, now() - make_interval(mins => n % 60), 1
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
-- In a few of them many take part.
insert into participants (conversation_id, user_id)
    select md5('c' || n)::uuid, md5('u' || n + 100 + k)::uuid from generate_series(0, 20) n, generate_series(0, 39) k
    on conflict do nothing;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
    select md5('c' || n % {CONVERSATIONS})::uuid, n / {CONVERSATIONS} + 1, gen_random_uuid(),
           md5('u' || n % {CONVERSATIONS // 5})::uuid, clock_timestamp() - interval '1 day', 'text', 'x'
    from generate_series(0, {MESSAGES - 1}) n;
insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    select sender_id, gen_random_uuid(), conversation_id, 'x', seq, id, created from messages;
insert into group_states (conversation_id, control_seq, user_id, device_id, body)
    select distinct on (conversation_id) conversation_id, 1, sender_id, sender_id, 'x' from messages;
insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)
    select conversation_id, seq, 0, 0, array[sender_id], array[1], 'x', created from messages;
insert into undecryptable (conversation_id, seq, device_id, sender_id, revision, reason, at)
    select conversation_id, seq, sender_id, sender_id, 0, 'other', created from messages;
insert into revisions (conversation_id, seq, at) select conversation_id, seq, created from messages;
insert into hidden (user_id, conversation_id, seq, at) select sender_id, conversation_id, seq, created from messages;
insert into emails (user_id, address, verified, wants_digest, next_digest, seed, verification_hash,
                    verification_expires, unsubscribe_hash)
    select id, username || '@example.org', now(), true, now() + interval '1 day', id, sha256(uuid_send(id)), now(),
           sha256(uuid_send(id)) from users;
insert into mailboxes (mailbox_hash, sent_since)
    select sha256(uuid_send(id)), now() - case when username like '%7' then interval '2 days' else '0' end from users;
insert into sent_verifications (token_hash, address_hash, expires)
    select sha256(uuid_send(id)), sha256(convert_to(username || '@example.org', 'UTF8')),
           now() + case when username like '%7' then interval '-2 days' else '1 day' end from users;
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, conversation_id, seq)
    select m.id, m.sender_id, 'attachments/' || m.id, 1, 'image/jpeg', sha256(''), now(), m.conversation_id, m.seq
    from messages m where m.seq = 1;
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, is_avatar, is_shown)
    select id, id, 'attachments/' || id, 1, 'a/b', sha256(''), now(), true, true from users;
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, is_avatar, is_shown)
    select id, md5('u0')::uuid, 'attachments/' || id, 1, 'a/b', sha256(''), now(), true, true from conversations;
update users set avatar = id where deleted is null;
update conversations set avatar = id;
insert into outbox (conversation_id, seq) select conversation_id, seq from messages order by created;
insert into read_windows (conversation_id, seq, created) select conversation_id, seq, created from messages;
insert into notices (user_id, notifier_id, name, told, times, unread, delivered, read, look)
    select user_id, id, '1-1', now(), 1, 1, 0, 0, now() + interval '1 hour' from notifiers;
insert into contacts (user_id, contact_id, is_blocked, last_seen)
    select md5('u' || n)::uuid, md5('u' || (n + k) % {CONVERSATIONS // 5})::uuid, k = 5, case when k = 5 then now() end
    from generate_series(0, {CONVERSATIONS // 5 - 1}) n, generate_series(1, 5) k;
insert into withheld (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq)
    select c.id, u.id, 0, 0, 0, 0 from (select id, row_number() over () as n from conversations limit 1000) c
    join (select id, row_number() over () as n from users) u on u.n = c.n % 900 + 1;
insert into account_deletions (user_id, due, deletes_messages) select id, now() + interval '1 day', true from users;
insert into external_identities (issuer, subject, user_id) select 'https://issuer.example', username, id from users
    on conflict do nothing;
insert into former_usernames (username_hash, until) select sha256(uuid_send(id)), now() + interval '1 day' from users;
insert into password_resets (id, user_id, token_hash, expires)
    select id, id, sha256(uuid_send(id)), now() from users;
insert into exports (id, user_id, asked) select id, id, now() from users;
insert into starts (user_id, at) select id, array[now()] from users;
insert into departures (user_id, conversation_id, since_seq, left_seq)
    select md5('u' || (n + 3) % {CONVERSATIONS // 5})::uuid, md5('c' || n)::uuid, 0, 5
    from generate_series(0, {CONVERSATIONS - 1}) n;
insert into stays (user_id, conversation_id, since_seq, left_seq, delivered_seq, read_seq, departed)
    select user_id, conversation_id, 0, 5, 5, 5, now() from departures;
insert into device_changes (conversation_id, user_id, version) select conversation_id, user_id, 1 from departures;
insert into dead_jobs (id, task, payload, attempts, reason)
    select -n, 'other', '{{}}', 1, 'x' from generate_series(1, {CONVERSATIONS}) n;
insert into last_seen (user_id, at) select id, now() from users on conflict do nothing;
insert into quiet_hours select id, 0, 60, 'UTC' from users on conflict do nothing;
insert into activity
    select (now() at time zone 'UTC')::date - n, u.id from users u, generate_series(0, 9) n on conflict do nothing;
insert into analytics
    select (now() at time zone 'UTC')::date - n, 'metric' || k, 1
    from generate_series(1, 1000) n, generate_series(1, 5) k on conflict do nothing;
insert into latencies
    select (now() at time zone 'UTC')::date - n, k, 1 from generate_series(1, 1000) n, generate_series(1, 5) k
    on conflict do nothing;
insert into security_events (kind, user_id, actor, at)
    select 'login', md5('u' || n % {CONVERSATIONS // 5})::uuid, 'user', now() - make_interval(hours => n)
    from generate_series(0, {CONVERSATIONS - 1}) n;
update conversations set lifetime_s = 60 where id < '20000000-0000-0000-0000-000000000000';
update expiries e
    set oldest = e.oldest - interval '1 day', due = e.oldest - interval '1 day' + make_interval(secs => c.lifetime_s)
    from conversations c where c.id = e.conversation_id;
"""


@pytest.fixture
def single(database_url: str) -> Iterator[Pool]:
    """One connection, so that the test looks at its own prepared statements and their plans."""
    pool = Pool(database_url, 1)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def filled(postgres_with_template: PostgresServer) -> Iterator[str]:
    """A database with rows in each table that grows, to copy from: to insert them takes seconds."""
    with psycopg.connect(postgres_with_template.url, autocommit=True) as admin:
        admin.execute(f"create database filled template {TEMPLATE}")
        trio.run(fill, database_of(postgres_with_template, "filled"))
        yield "filled"
        admin.execute("drop database filled with (force)")


@pytest.fixture
def full(postgres_with_template: PostgresServer, filled: str) -> Iterator[Pool]:
    """One connection to a full database."""
    with psycopg.connect(postgres_with_template.url, autocommit=True) as admin:
        admin.execute(f"create database full_copy template {filled} strategy file_copy")
        with closing(Pool(database_of(postgres_with_template, "full_copy"), 1)) as pool:
            yield pool
        admin.execute("drop database full_copy with (force)")


async def fill(url: str) -> None:
    async with connected(url) as connection:
        await connection.script(FILL)


async def rows_read_in_sequence(pool: Pool) -> dict[str, int]:
    await pool.fetch("select pg_stat_force_next_flush()")
    await pool.fetch("select 1")
    rows = await pool.fetch("select relname, seq_tup_read from pg_stat_user_tables where schemaname = 'public'")
    return dict(rows)


class Traffic:
    """All statements, on users and conversations that change from turn to turn."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.cache = ParticipantsCache()
        self.turn = 0

    async def all_once(self) -> None:
        [(user, here, there, self.other)] = await self.pool.fetch(
            "select md5('u' || %(n)s)::uuid, md5('c' || %(n)s)::uuid, md5('c' || %(m)s)::uuid, md5('u' || %(o)s)::uuid",
            {"n": self.turn % 1000, "m": self.turn % 1000 + 1000, "o": (self.turn + 50) % 1000},
        )
        for statement in self.statements(user, here, there):
            with suppress(Refused):  # not this user's
                try:
                    await statement()
                except DatabaseError as error:
                    if error.sqlstate != "23503":  # a foreign key, on empty tables
                        raise
        self.turn += 1

    async def sync(self, user: bytes, here: bytes) -> None:
        """As on a new device, then on one that has missed messages, then changes of conversations."""
        cursor: bytes | None = None
        while True:
            page = await sync(self.pool, user, cursor)
            cursor = page.cursor
            if not page.more:
                break
        await send(self.pool, self.cache, [a_message(here, user)])
        await self.pool.fetch(
            "update departures set changed = pg_current_xact_id() where user_id = %(user)s::uuid", {"user": uuid(user)}
        )
        await sync(self.pool, user, cursor)

    async def envelop(self, user: bytes, here: bytes, there: bytes) -> None:
        """Sends alone and in a batch, edits, and all ways to read envelopes."""
        rows = await self.pool.fetch(
            "select id from devices where user_id = %(user)s::uuid and identity is not null", {"user": uuid(user)}
        )
        device = rows[0][0] if rows else user
        given = [(device, b"envelope")]
        for places in ([here], [here, there]):
            await send(
                self.pool, self.cache, [a_message(place, user, envelopes=envelopes.pack(given)) for place in places]
            )
        shown = (await messages.history(self.pool, user, here, limit=2, device=device)).messages
        if rows:
            await revisions.edit(
                self.pool, user, here, shown[0].seq, 0, "text", b"x", None, None, device=device, envelopes=given
            )
        message = Message(here, 1, here, 0, user, "text", b"", None, None, has_envelopes=True)
        await envelopes.with_own(self.pool, device, [message])
        await envelopes.tables_of(self.pool, [message])
        if rows:
            await undecryptable.add_envelopes(self.pool, user, device, here, shown[0].seq, 1, [(device, b"other")])
        with suppress(Refused):
            await undecryptable.report(self.pool, user, device, here, 1, 0, "other")
        await undecryptable.reported_since(self.pool, ago_s=5)
        await undecryptable.told_reports(self.pool, user, device)

    async def control(self, user: bytes, here: bytes) -> None:
        [sent] = await send(self.pool, self.cache, [a_message(here, user, follows=0)])
        seq = sent.seq if isinstance(sent, Committed) else 1
        for body in (b"state", b"another"):
            with suppress(NotAParticipant, ControlConflict):
                await group_states.put(self.pool, user, user, here, seq, body)
        with suppress(NotAParticipant):
            await group_states.state(self.pool, user, here)

    async def clear(self) -> None:
        """A batch of each kind, for conversations with messages whose lifetime has ended."""
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
            lambda: messages.messages_between(pool, here, [user], after=2, upto=5, limit=10),
            lambda: messages.current_participants(pool, here),
            lambda: messages.active_conversations(pool, [user], ago_s=5),
            lambda: conversations.list_of(pool, user, limit=20),
            lambda: conversations.one(pool, user, here),
            lambda: tokens.device_by_token(pool, "token"),
            lambda: tokens.greeted_device(pool, "token"),
            lambda: self.renewal(user),
            lambda: tokens.renew_token(pool, user, "token", lifetime_s=60),
            lambda: devices.devices_of(pool, user, limit=9),
            lambda: devices.ended_since(pool, ago_s=1),
            lambda: self.publish(user),
            lambda: self.suspend(user),
            lambda: participant_lists.watchable(pool, user, [user, here]),
            lambda: participant_lists.unwatchable(pool, [(user, here), (here, user)]),
            lambda: revisions.edit(pool, user, here, 1, 0, "text", b"x", None, None),
            lambda: revisions.delete_for_everyone(pool, user, here, 1),
            lambda: revisions.delete_for_me(pool, user, here, 2),
            lambda: revisions.revised_since(pool, [user], ago_s=5),
            lambda: self.envelop(user, here, there),
            lambda: self.control(user, here),
            lambda: self.sync(user, here),
            lambda: accounts.add_user(pool, f"new{self.turn}", "x"),
            lambda: self.invite(),
            lambda: emails.email_settings_of(pool, user),
            lambda: emails.verify(pool, "token"),
            lambda: emails.unsubscribe(pool, "token"),
            lambda: emails.take_verification(pool, user),
            lambda: emails.device_notice(pool, user, user),
            lambda: emails.reuse_notice(pool, user, user),
            lambda: emails.ask_digests(pool, limit=10),
            lambda: emails.forget_mailboxes(pool, limit=10),
            lambda: emails.forget_sent(pool, limit=10),
            lambda: emails.digest(pool, user),
            lambda: last_seen.touch(pool, [user, here]),
            lambda: outbox.decide(pool, window_s=3600),
            lambda: jobs.relay(pool, [("digest", priority, 10) for priority in range(3)]),
            lambda: jobs.claim(pool, [1, 2], "worker"),
            lambda: jobs.beat(pool, [1, 2], "worker"),
            lambda: jobs.end(pool, [jobs.RunEnd(1, 1, jobs.Ending("done"))], "worker"),
            lambda: jobs.next_due(pool, ["digest", "offline_notice"]),
            lambda: jobs.state(pool, 1),
            lambda: jobs.dead_jobs(pool, task="digest"),
            lambda: retention.move_floors(pool, days=0.5, archives=False, limit=2),
            lambda: retention.unannounced(pool, limit=2),
            lambda: self.clear(),
            lambda: tokens.forget_tokens(pool, limit=10),
            lambda: orphans.orphaned(pool, limit=10),
            lambda: orphans.orphan_below_floors(pool, "", limit=10),
            lambda: orphans.unknown_objects(pool, [StoredObject(f"attachments/{self.turn}", 1, 1)]),
            lambda: orphans.unknown_multiparts(pool, [OpenMultipart(f"attachments/{self.turn}", "x", 1)]),
            lambda: orphans.missing_objects(pool, [StoredObject(f"attachments/{self.turn}", 1, 1)], "b", "c"),
            lambda: analytics.add_missing(pool, 1),
            lambda: outbox.end_read_windows(pool, window_s=3600),
            lambda: outbox.wait_for_read(pool, user, window_s=3600),
            lambda: notifiers.notice_context(pool, user, read_after_s=60, to_deployment=True),
            lambda: notifiers.enqueue_notices(pool, user, job=1, delays_s={None: 0, here: 60}),
            lambda: notifiers.note_taken(pool, user, NOTIFIER_STATE, LAST),
            lambda: notifiers.note_withdrawn(pool, user, None, "1-1"),
            lambda: notifiers.enqueue_withdrawals(pool, limit=5),
            lambda: notifiers.check_notices_soon(pool, [user, here]),
            lambda: notifiers.notifiers_of(pool, user),
            lambda: notifiers.add(pool, user, notifiers.FcmTarget("token"), device=user),
            lambda: notifiers.note_failure(pool, user, "x"),
            lambda: notifiers.remove_target(pool, user, notifiers.FcmTarget("token")),
            lambda: notifiers.remove(pool, user, user),
            lambda: accounts.user_by_name(pool, f"user{self.turn}"),
            lambda: devices.add_device(pool, user, "d", lifetime_s=60),
            lambda: devices.revoke_device(pool, user, user),
            lambda: self.note_use(user),
            lambda: devices.revoke_devices(pool, user, keep=user),
            lambda: accounts.change_password(pool, user, user, "x", "x", ends_others=True),
            lambda: devices.confirm(pool, user, user, "x"),
            lambda: accounts.password_hash_of(pool, user),
            lambda: accounts.replace_hash(pool, user, "x", "x"),
            lambda: self.figures(),
            lambda: contacts.add(pool, user, here),
            lambda: contacts.remove(pool, user, here),
            lambda: contacts.set_blocked(pool, user, self.other, is_blocked=self.turn % 2 == 0),
            lambda: contacts.list_of(pool, user, limit=10),
            lambda: contacts.contact_of(pool, user, self.other),
            lambda: marks.direct_mark(pool, user, self.other),
            lambda: conversations.add_direct(pool, user, self.other),
            lambda: conversations.add_group(pool, "New", [user], admin=user),
            lambda: conversations.participants_of(pool, user, here, limit=10),
            lambda: conversations.participant(pool, here, user),
            lambda: conversations.participant_count(pool, here),
            lambda: conversations.seen_by(pool, here, [user, self.other]),
            lambda: participants.accept(pool, user, here),
            lambda: participants.decline(pool, user, here),
            lambda: contacts.blockers(pool, user, [self.other]),
            lambda: conversations.participants_versions(pool, [here]),
            lambda: profiles.shown_to(pool, user, self.other),
            lambda: messages.typing_recipients(pool, here, user),
            lambda: conversations.add_group(pool, "g", [user], admin=user),
            lambda: list_pages.list_state_for(pool, "token", limit=20),
            lambda: list_pages.first_page(pool, user, limit=20),
            lambda: list_pages.first_page_for(pool, "token", limit=20),
            lambda: list_pages.listed(pool, user, [here]),
            lambda: conversations.entry_for(pool, "token", here),
            lambda: emails.put(
                pool,
                user,
                f"e{self.turn}@example.org",
                wants_digest=True,
                wants_device_notice=True,
                digest_hour=8,
                zone="UTC",
            ),
            lambda: emails.digest_sent(pool, user, "x"),
            lambda: emails.remove(pool, user),
            lambda: jobs.enqueue(pool, "digest", b"{}", key=str(self.turn)),
            lambda: jobs.enqueue_plain(pool, [jobs.NewJob("digest", b"{}")]),
            lambda: jobs.enqueue_taken(pool, lambda: [jobs.NewJob("digest", b"{}")]),
            lambda: jobs.release(pool, [1, 2]),
            lambda: jobs.add_dead_volatile(
                pool, f"v{self.turn}", "digest", b"{}", 1, 1, jobs.Ending("dead", reason="x")
            ),
            lambda: jobs.cancel(pool, 1),
            lambda: jobs.replay(pool, task="digest", limit=10),
            lambda: jobs.discard(pool, job=-self.turn - 1, limit=10),
            lambda: jobs.forget_dead(pool, days=90, limit=10),
            lambda: jobs.paused_tasks(pool),
            lambda: jobs.pause(pool, "digest"),
            lambda: jobs.resume(pool, "digest"),
            lambda: last_seen.last_seen(pool, [user]),
            lambda: marks.receipt_counts(pool, here, after=0, upto=5, limit=10),
            lambda: marks.message_status(pool, user, here, 5),
            lambda: marks.direct_mark(pool, user, self.other),
            lambda: messages.expected_deliveries(pool, [user], here, after=0, upto=5),
            lambda: end_backends(pool.url, [Backend(2**22 + self.turn, 0)]),  # a pid that does not exist
            lambda: waits_of(pool.url, [2**22 + self.turn], name="plans"),
            lambda: outbox.is_unread(pool, user, here, 5),
            lambda: pool.read(RECEIPT_COUNTS, {"conversations": [here], "user": user, "counted": 50}),
            lambda: self.changes(user),
            lambda: send(pool, self.cache, [a_message(here, user, temp_id=ids.uuid7(self.turn, bytes(10)))]),
            # From the next turn on some messages of the conversation are quiet.
            lambda: send(pool, self.cache, [a_message(here, user, is_quiet=True)]),
            lambda: history_pages.history_version_for(pool, "token", here),
            lambda: history_pages.newest(pool, user, here, limit=20, max_bytes=9999, after=2),
            lambda: history_pages.newest_for(pool, "token", here, limit=20, max_bytes=9999),
            lambda: messages.history_around(pool, user, here, around=3, limit=4),
            lambda: messages.forget_temp_ids(pool, limit=10),
            lambda: revisions.forget_revisions(pool, limit=10),
            lambda: envelopes.forget_envelopes(pool, limit=10),
            lambda: undecryptable.forget_reports(pool, limit=10),
            lambda: orphans.remove(pool, [orphans.Orphan(user, "attachments/x", None)]),
            lambda: self.upload(user),
            lambda: self.sweep(),
            lambda: self.delete_account(),
            lambda: self.reset_password(user),
            lambda: self.export(user),
            lambda: participants.add(pool, user, here, self.other),
            lambda: participants.last_stay(pool, here, self.other),
            lambda: participants.set_role(pool, user, here, self.other, "admin"),
            lambda: participants.change_settings(pool, user, here, name="other"),
            lambda: participants.change_settings(pool, user, here, avatar=NO_AVATAR),
            lambda: participants.mute(pool, user, here, seconds=60),
            lambda: participants.remove(pool, user, here, self.other),
            lambda: profiles.profile_of(pool, user),
            lambda: profiles.change(pool, user, display_name=f"n{self.turn}", gives_receipts=None, shows_presence=None),
            lambda: history_id(pool),
            lambda: security_events.note(pool, "login_failed", user, security_events.SYSTEM, is_counted=True),
            lambda: security_events.events_of(pool, user, limit=10),
            lambda: security_events.all_events(pool, limit=10),
            lambda: security_events.recent_events(pool, since=self.now_us(), limit=10),
            lambda: security_events.forget_events(pool, days=90, limit=10),
            lambda: quiet_hours.quiet_hours_of(pool, user),
            lambda: quiet_hours.set_quiet_hours(pool, user, quiet_hours.QuietHours(1, 2, "UTC")),
            lambda: quiet_hours.set_quiet_hours(pool, user, None),
            lambda: self.inspect(user, here),
            lambda: self.check_database(),
        ]

    def now_us(self) -> int:
        return int(time.time() * 1e6)

    async def suspend(self, user: bytes) -> None:
        for is_suspended in (True, False):
            await suspensions.set_suspended(self.pool, user, is_suspended=is_suspended, source=security_events.SYSTEM)
            await suspensions.is_suspended(self.pool, user)

    async def publish(self, user: bytes) -> None:
        device, _, _ = await devices.add_device(self.pool, user, "d", lifetime_s=60)
        held = await keys.put(self.pool, device, b"identity")
        key = ("otk", 1, b"key")
        await keys.put(self.pool, device, None, [key], [key], is_anew=True, history=held.history)
        await keys.status(self.pool, device)
        await keys.devices_of(self.pool, self.other, [user, self.other])
        for _ in range(2):
            await KeyClaims(self.pool).claim(user, [user, self.other], ["otk"])
        await KeyClaims(self.pool).list_changed(user, bytes(16), StaleDevices(1, [user]))
        await keys.low_since(self.pool, ago_s=1)
        await keys.forget_claims(self.pool, limit=10)
        await keys.small_changes(self.pool, [user])
        await conversations.add_self(self.pool, user)
        await self.pool.fetch("update devices set expires = now() where id = %s", (uuid(device),))
        await keys.end_expired_identities(self.pool)
        await devices.revoke_device(self.pool, user, device)

    async def renewal(self, user: bytes) -> None:
        device, token, _ = await devices.add_device(self.pool, user, "d", lifetime_s=60)
        new, _, _ = await tokens.renew_token(self.pool, device, token, lifetime_s=60)
        await tokens.device_by_token(self.pool, new)

    async def note_use(self, device: bytes) -> None:
        uses = DeviceUses(self.pool)
        uses.note(device, "client/1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uses.run)
            await uses.wait_idle()
            nursery.cancel_scope.cancel()

    async def figures(self) -> None:
        pool, today = self.pool, await analytics.today(self.pool)
        await analytics.unclosed(pool)
        await analytics.count_day(pool, today)
        await analytics.close_day(pool, today - timedelta(days=1000))
        await analytics.has_objects(pool)
        await analytics.note_objects(pool, 1)
        await analytics.forget_activity(pool)
        await analytics.days(pool, today, today)
        await add_latencies(pool, {(20_000, 1): 1})

    async def changes(self, user: bytes) -> None:
        """The look-ups of a node after a gap."""
        [(base,)] = await self.pool.fetch("select pg_current_snapshot()::text")
        await participant_lists.changed_since(self.pool, [user], base)
        await participant_lists.departed_since(self.pool, [user], base)
        await participant_lists.acquainted(self.pool, user)
        await participant_lists.participant_counts(self.pool, [(self.other, user)])
        await participant_lists.unwatchable(self.pool, [(user, self.other)])
        await own_settings.changed_since(self.pool, [user], base)
        await take_cursor_snapshot(self.pool)

    async def delete_account(self) -> None:
        pool = self.pool
        user = await accounts.add_user(pool, f"gone{self.turn}", "x")
        for _ in range(2):
            await account_deletions.close(pool, user, delay_s=9, deletes_messages=True)
            await account_deletions.closing_of(pool, user)
            await account_deletions.closing_notice(pool, user)
            await account_deletions.keep(pool, user)
        await account_deletions.close(pool, user, delay_s=0, deletes_messages=True)
        await account_deletions.next_due(pool)
        await account_deletions.erase_own_messages(pool, user, look_at=10, limit=10)
        await account_deletions.leave_conversations(pool, user, limit=10)
        await account_deletions.delete_contacts(pool, user, limit=10)
        await account_deletions.delete_rows(pool, user, limit=10)
        assert await account_deletions.anonymise(pool, user)
        await account_deletions.note_told(pool, await account_deletions.untold(pool))
        await account_deletions.forget_usernames(pool, limit=10)

    async def invite(self) -> None:
        pool = self.pool
        invitation, code, _ = await invitations.add(pool, uses=2, lifetime_s=60)
        await invitations.check(pool, code)
        await accounts.add_user(pool, f"invited{self.turn}", "x", invitation=code)
        identity = accounts.ExternalIdentity("https://issuer.example", f"invited{self.turn}")
        external = await accounts.add_user(pool, f"external{self.turn}", None, identity=identity)
        assert await accounts.user_by_identity(pool, identity)
        device, _, _ = await devices.add_device(pool, external, "x", lifetime_s=60, authenticated=1.0)
        await devices.confirm_externally(pool, external, device, 2.0)
        await invitations.open_invitations(pool)
        await invitations.revoke(pool, invitation)
        await invitations.forget_invitations(pool, limit=10)

    async def reset_password(self, user: bytes) -> None:
        pool = self.pool
        await password_resets.ask(pool, username=f"user{self.turn}")
        await password_resets.ask(pool, address=f"user{self.turn}@example.org")
        await password_resets.mail(pool, user)
        await password_resets.changed_notice(pool, user)
        with suppress(ResetUnknown):
            await password_resets.check(pool, "token")
        with suppress(ResetUnknown):
            await password_resets.reset(pool, "token", "x")
        await password_resets.void(pool, user, source=security_events.SYSTEM)
        await password_resets.forget_resets(pool, limit=10)

    async def export(self, user: bytes) -> None:
        pool = self.pool
        with suppress(TooManyExports):
            await exports.ask(pool, user)
        made = await exports.ask(pool, await accounts.add_user(pool, f"exports{self.turn}", "x"))
        owner = await exports.user_of_open(pool, made)
        assert owner is not None
        await exports.exports_of(pool, owner)
        await exports.note_ready(pool, made, parts=1, size_bytes=1)
        await exports.check_part(pool, owner, made, 1)
        await exports.ready_notice(pool, made)
        await exports.old_exports(pool, limit=10)
        await exports.exports_of_account(pool, owner)
        await exports.remove(pool, made)
        async for _ in exported.lines_of(pool, user):
            pass

    async def upload(self, user: bytes) -> None:
        pool = self.pool
        one, other = await attachments.declare(pool, user, [a_file(), a_file(2**24)], QUOTAS)
        await attachments.uploads(pool, user, [one.id, other.id])
        await attachments.note_multipart(pool, other, "x")
        await attachments.complete(pool, user, [one.id])
        await attachments.readable(pool, user, [one.id, other.id])
        [picture] = await attachments.declare(
            pool, user, [a_file(media_type="application/octet-stream")], QUOTAS, avatars="encrypted"
        )
        await attachments.complete(pool, user, [picture.id])
        await profiles.change(pool, user, avatar=picture.id)
        await attachments.readable(pool, user, [picture.id, user])
        await attachments.note_sizes(pool, {picture.id: 5})
        await orphans.remove(pool, await attachments.give_up(pool, user, [one.id, other.id]))

    async def inspect(self, user: bytes, here: bytes) -> None:
        """What operators look at."""
        pool, users = self.pool, [user, self.other]
        await inspected_users.find_user(pool, f"user{self.turn}", str(UUID(bytes=user)))
        await inspected_users.find_user(pool, "", str(UUID(bytes=user)))
        await inspected_users.names_near(pool, f"user{self.turn}")
        with suppress(ValueError):  # on empty tables
            await inspected_users.account_of(pool, user)
        await inspected_users.devices_of(pool, users)
        await inspected_users.behind_of(pool, user)
        await inspected_users.notifiers_of(pool, users)
        await inspected_users.notice_jobs_of(pool, users)
        await inspected_users.dead_jobs_of(pool, users)
        await inspected_messages.place_of(pool, UUID(bytes=ids.uuid7(int(time.time() * 1000), bytes(10))))
        await inspected_messages.conversation_of(pool, here)
        await inspected_messages.message_of(pool, here, 2)
        await inspected_messages.recipients_of(pool, here, 2, user, limit=50)
        await inspected_messages.recipients_of(pool, here, 2, user, user=self.other, limit=50)
        await inspected_messages.queues_of(pool)

    async def check_database(self) -> None:
        pool = self.pool
        await database_checks.server(pool)
        await database_checks.wanting_migrations(pool)
        await database_checks.role(pool)
        await database_checks.indexes(pool)
        await database_checks.unchecked_constraints(pool)
        await database_checks.old_transactions(pool, than_s=300)
        await database_checks.prepared_transactions(pool)
        await database_checks.replication_slots(pool)
        await database_checks.replicas(pool)
        await database_checks.horizon(pool)
        await database_checks.answer(pool)
        await database_checks.blockers(pool, than_s=1)
        await database_checks.long_waits(pool, than_s=1)

    async def sweep(self) -> None:
        at = await orphans.position(self.pool, "some")
        await orphans.move(self.pool, "some", at, "1")


async def tables_read_in_sequence(pool: Pool, traffic: Traffic) -> set[str]:
    """The tables with more than a few scanned rows in one turn of all statements."""
    before = await rows_read_in_sequence(pool)
    for _ in range(8):
        await traffic.all_once()
    after = await rows_read_in_sequence(pool)
    return {table for table in after if after[table] - before[table] > 100 and table not in SMALL}


async def test_full_tables_are_not_read_from_end_to_end(full: Pool) -> None:
    await full.fetch("analyze")
    assert await tables_read_in_sequence(full, Traffic(full)) == set()


READ_WITHOUT_STATISTICS = {"conversations", "expiries", "key_claims", "key_pools", "withheld"}
"""Tables whose plan depends on how many rows match: until autovacuum runs, a minute after an import."""


async def test_the_largest_tables_are_not_scanned_even_without_statistics(full: Pool) -> None:
    """As after an import, before autovacuum runs."""
    assert await tables_read_in_sequence(full, Traffic(full)) <= READ_WITHOUT_STATISTICS


async def test_plans_made_on_empty_tables_do_not_outlive_them(single: Pool) -> None:
    """Prepared statements, and those within send_batch(), keep their plans: made on empty tables, they are replaced."""
    traffic = Traffic(single)
    for _ in range(8):
        await traffic.all_once()
    await fill(single.url)
    for _ in range(10):  # more than as many queries again
        await traffic.all_once()
    assert await tables_read_in_sequence(single, traffic) <= READ_WITHOUT_STATISTICS


SMALL = {
    "attachment_total": "one row",
    "function_sets": "a row for each set of functions that was applied",
    "history": "one row",
    "invitations": "as many as operators make by command, until they expire",
    "mail_key": "one row",
    "migrations": "a row for each numbered file",
    "paused_tasks": "a row for each task at most",
    "progress": "a row for each piece of work",
    "schedules": "a row for each schedule",
    "sweeps": "a row for each piece of work",
}
"""Tables that do not grow: statements may scan them, and they need not be full here."""


async def test_every_table_that_grows_is_full_here(full: Pool) -> None:
    """On an empty table every plan is a good one."""
    tables = await full.fetch(
        "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    counts = {table: (await full.fetch(f"select count(*) from {table}"))[0][0] for (table,) in tables}
    assert {table for table, count in counts.items() if count < 900} == set(SMALL)


UNSEEN = {
    "analytics.note_storage": "reads pg_class",
    "marks.behind": "of marks whose conversations are locked",
    "history.begin": "an operator's, who has stopped everything else",
    "jobs.release_all": "all jobs of a Redis that has forgotten them",
    "jobs.shorten_leases": "after the clock went back",
    "jobs.task_statuses": "an operator's, who wants to know of all",
    "replicas.behind": "of a standby, and no table",
    "replicas.place": "no table but that of the history",
    "replicas.replayed": "of a standby, and no table",
    "schedules.all": "a small table",
    "schedules.declare": "a small table",
    "schedules.fire": "a small table",
    "schedules.mend": "a small table",
    "schedules.now": "no table",
    "schedules.pause": "a small table",
    "schedules.remove": "a small table",
    "schedules.resume": "a small table",
}
"""Statements that are not run here, and why."""


async def test_every_statement_is_run_here(full: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query in store/sql/ is run here, or named above."""
    run: set[str] = set()
    query, run_encoded, run_all = PostgresConnection.query, PostgresConnection.run_encoded, PostgresConnection.run_all

    async def noted_query(self: PostgresConnection, sql: str, parameters: Any = ()) -> Any:
        run.add(shape(sql))
        return await query(self, sql, parameters)

    async def noted_run(self: PostgresConnection, statement: Statement, parameters: Any) -> Any:
        run.add(shape(statement.sql.decode()))
        return await run_encoded(self, statement, parameters)

    async def noted_all(self: PostgresConnection, reads: Any) -> Any:
        run.update(shape(statement.sql.decode()) for statement, _ in reads)
        return await run_all(self, reads)

    monkeypatch.setattr(PostgresConnection, "query", noted_query)
    monkeypatch.setattr(PostgresConnection, "run_all", noted_all)
    monkeypatch.setattr(PostgresConnection, "run_encoded", noted_run)
    traffic = Traffic(full)
    for _ in range(3):
        await traffic.all_once()
    files = sorted(file.name.removesuffix(".sql") for file in resources.files(sql).iterdir() if file.is_file())
    unseen = {
        f"{file}.{name}"
        for file in files
        if file != "__init__.py"
        for name, text in vars(sql.load(file)).items()
        if not any(shape(text) in each for each in run)
    }
    assert unseen == set(UNSEEN)


def shape(text: str) -> str:
    """A statement without the names of its parameters."""
    return re.sub(r"%\(\w+\)s|\$\d+", "?", text).rstrip(";")

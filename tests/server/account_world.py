"""A user of whom each table has rows, among others: for tests of all that is deleted, or exported."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import uuid4

from client.http import Credentials
from server.http.passwords import HASHER
from store import accounts, contacts, emails, keys, marks, notifiers, participants, profiles, quiet_hours, revisions
from store.key_claims import KeyClaims
from store.marks import Mark
from store.notifiers import EmailTarget, WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours
from tests.people import make_contacts, new_device, new_direct, new_group, new_user
from tests.server.http_world import PASSWORD, say

NAME: Final = "zq-alice"
PLANTED: Final = "zq-"
"""All that the user has chosen begins with it: names, the address, the webhook. No other row of the database has it."""

CONTENT: Final = b"zq-content"

USER_COLUMNS: Final = """
    select distinct c.relname::text, a.attname::text
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and a.attnum = any(k.conkey)
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and not a.attisdropped and a.attnum > 0
      and (k.confrelid = 'users'::regclass
           or a.atttypid = 'uuid'::regtype and a.attname in ('user_id', 'sender_id', 'deleted_by')
           or (c.relname, a.attname) in (('users', 'id'), ('jobs', 'payload'), ('dead_jobs', 'payload')))
    order by 1, 2
"""
"""Tables and columns that say which user a row is about: by foreign keys, and by their names where there are none."""


class PlantedUser(NamedTuple):
    """Alice has rows in each table; Bob is her contact; Carol shares groups with her; Dave blocks her, and she Erin.

    :ivar group: of Alice, its administrator, with Bob and Carol.
    :ivar left: a group that Alice has left.
    :ivar alone: a group of Alice alone.
    :ivar direct: with Bob.
    """

    alice: Credentials
    bob: Credentials
    carol: Credentials
    dave: Credentials
    erin: Credentials
    group: bytes
    left: bytes
    alone: bytes
    direct: bytes
    with_dave: bytes
    with_erin: bytes


async def plant(pool: Pool) -> PlantedUser:
    """Make the users and the rows."""
    user = await accounts.add_user(pool, NAME, HASHER.hash(PASSWORD))
    alice = await new_device(pool, user, "zq-phone")
    bob, carol, dave, erin = [await new_user(pool, name) for name in ("bob", "carol", "dave", "erin")]
    group = await new_group(pool, alice, bob, carol)
    left, alone = await new_group(pool, carol, alice, bob), await new_group(pool, alice)
    direct, with_dave, with_erin = [await new_direct(pool, alice, other) for other in (bob, dave, erin)]
    await make_contacts(pool, alice, bob)
    for conversation in (group, left, alone, direct, with_dave, with_erin):
        await say(pool, conversation, user, b"zq-content 1", b"zq-content 2")
    for conversation in (group, left, direct):
        await say(pool, conversation, bob.user, b"other")
    await revisions.edit(pool, user, group, 1, 0, "text", b"zq-content edited", None, None)
    await revisions.delete_for_me(pool, user, direct, 1)
    await marks.mark(pool, [[Mark(group, bob.user, 2, 2), Mark(direct, bob.user, 2, 2)]])
    await leave(pool, alice, left)
    await contacts.set_blocked(pool, dave.user, user, is_blocked=True, is_online=False)
    await contacts.set_blocked(pool, user, erin.user, is_blocked=True, is_online=False)
    await say(pool, with_dave, user, b"zq-content silent")
    await profiles.change(pool, user, display_name="zq-display")
    key = ("zq-kind", 1, b"zq-key")
    history = (await keys.put(pool, alice.device, b"zq-identity")).history
    await keys.put(pool, alice.device, None, [key], [key], history=history)
    await KeyClaims(pool).claim(user, [user], ["no such kind"])
    await plant_settings(pool, alice)
    await plant_rows(pool, alice, group)
    return PlantedUser(alice, bob, carol, dave, erin, group, left, alone, direct, with_dave, with_erin)


async def leave(pool: Pool, who: Credentials, group: bytes) -> None:
    await participants.remove(pool, who.user, group, who.user)


async def plant_settings(pool: Pool, alice: Credentials) -> None:
    mail = {"wants_digest": True, "wants_device_notice": True, "digest_hour": 8, "zone": "UTC"}
    await emails.put(pool, alice.user, "zq-mail@example.org", **mail)
    await pool.fetch("update emails set verified = now() where user_id = %s", (uuid(alice.user),))
    await notifiers.add(
        pool, alice.user, WebhookTarget("https://zq-hook.example.org/", "whsec_zq-secret"), device=alice.device
    )
    await notifiers.add(pool, alice.user, EmailTarget())
    await quiet_hours.set_quiet_hours(pool, alice.user, QuietHours(60, 120, "UTC"))


async def plant_rows(pool: Pool, alice: Credentials, group: bytes) -> None:
    """Rows that the processes write in time."""
    parameters: dict[str, Any] = {"user": uuid(alice.user), "group": uuid(group), "other": uuid(uuid4().bytes)}
    for statement in (
        "insert into security_events (kind, user_id, actor, client, network)"
        " values ('login', %(user)s, 'user', 'zq-client', '192.0.2.0/24')",
        "insert into external_identities values ('https://issuer.example', 'zq-subject', %(user)s)",
        "insert into exports (id, user_id, asked) values (%(other)s, %(user)s, now() - interval '2 days')",
        "insert into password_resets (id, user_id, token_hash, expires)"
        " values (%(other)s, %(user)s, sha256('zq-token'), now())",
        "insert into last_seen values (%(user)s, now())",
        "insert into activity values (current_date, %(user)s)",
        "insert into group_states (conversation_id, control_seq, user_id, device_id, body)"
        " values (%(group)s, 1, %(user)s, %(other)s, 'x')",
        "insert into starts (user_id, at) values (%(user)s, array[now()])"
        " on conflict (user_id) do update set at = excluded.at",
        "insert into notices (user_id, notifier_id, name, told, times, unread, delivered, read)"
        " select %(user)s, null, 'zq-notice', now(), 1, 1, 0, 0",
        "insert into read_windows (conversation_id, seq, created, user_id) values (%(group)s, 1, now(), %(user)s)",
        "insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed)"
        " values (%(other)s, %(user)s, 'attachments/unused', 1, 'image/png', sha256(''), now())",
        "insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, conversation_id,"
        " seq)"
        " values (gen_random_uuid(), %(user)s, 'attachments/used', 1, 'image/png', sha256(''), now(), %(group)s, 1)",
        "insert into undecryptable (conversation_id, seq, device_id, sender_id, revision, reason)"
        " values (%(group)s, 1, %(other)s, %(user)s, 0, 'other')",
        "insert into stays values (%(group)s, %(user)s, 0, 0, 0, 0, null, now())",
        "insert into withheld (conversation_id, user_id) select c.id, %(user)s from conversations c"
        " where c.kind = 'group' and not exists (select from shown_participants p"
        " where p.conversation_id = c.id and p.user_id = %(user)s) limit 1",
        "insert into dead_jobs (id, task, payload, attempts, reason) values (nextval('jobs_id_seq'), 'digest',"
        " jsonb_build_object('user', %(user)s::text), 1, 'the server refuses zq-mail@example.org')",
        "select enqueue('offline_notice', jsonb_build_object('user', %(user)s))",
        "with picture as (insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed,"
        " is_avatar, is_shown) values (gen_random_uuid(), %(user)s, 'attachments/picture', 1, 'a/b', sha256(''), now(),"
        " true, true) returning id) update users set avatar = (select id from picture) where id = %(user)s",
    ):
        await pool.fetch(statement, parameters)

"""Data that makes each answer as long as it can be: the longest texts, of characters that JSON escapes with six bytes,
the greatest numbers, as many rows as a page takes, and more."""

from __future__ import annotations

from uuid import UUID

from client.http import Credentials
from protocol.limits import (
    MAX_ATTACHMENTS,
    MAX_NONCE_BYTES,
    MAX_PARTICIPANTS,
    MAX_PUBLIC_KEY_BYTES,
    MAX_SHOWN,
    MAX_TITLE_CHARACTERS,
)
from server.http.answers.messages import MAX_CONTENT_BYTES
from server.http.queries import MAX_LIMIT
from store.notifiers import MAX_NOTIFIERS
from store.postgres.driver import connected
from store.postgres.pool import Pool
from tests.people import new_device

USERS = MAX_PARTICIPANTS
GROUPS = 110
MESSAGES = 110
DEVICES = 100
EVENTS = 120
FIRST_DAY = "2025-01-01"
BASE = 10**14
"""The `seq` before the first message: more messages than one conversation gets in 3,000 years at 1,000 a second."""

NAME = "\x01" * MAX_TITLE_CHARACTERS

LARGE = UUID("00000002-0000-4000-8000-000000000000")
"""The conversation with as many participants as there can be, and large messages."""

DEEP = UUID("00000003-0000-4000-8000-000000000000")
"""A conversation with messages that have no content, and long keys."""

EVEN = UUID("00000004-0000-4000-8000-000000000000")
"""A conversation with messages of which a page holds `MAX_LIMIT`, and as many bytes as it may."""

_DATA = """
create function pg_temp.id(kind int, n bigint) returns uuid language sql immutable
    as $$ select (lpad(to_hex(kind), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
create function pg_temp.name() returns text language sql immutable as $$ select repeat(chr(1), 128) $$;

insert into users (id, username, password_hash, display_name, profile_revision, messages_from, groups_from)
    select pg_temp.id(0, n), lpad(n::text, 32, chr(131072)), 'nobody logs in', pg_temp.name(), 2147483647, 'everybody',
           case when n between 1 and 100 then 'everybody' else 'nobody' end
    from generate_series(0, {users} - 1) n;
insert into contacts (user_id, contact_id, created)
    select pg_temp.id(0, 0), pg_temp.id(0, n), now() from generate_series(1, {users} - 1) n;
insert into contacts (user_id, contact_id, created)
    select pg_temp.id(0, n), pg_temp.id(0, 0), now() from generate_series(1, 100) n;
insert into devices (id, user_id, name, family_hash, token_hash, expires, identity, identity_revision)
    select pg_temp.id(9, n), pg_temp.id(0, 0), pg_temp.name(), h, h, now() + interval '9999 years',
           decode(repeat('ff', 4096), 'hex'), 2147483647
    from generate_series(1, {devices} - 1) n, sha256(n::text::bytea) h;
insert into key_pools (device_id, kind, stored, highest_number, history, most_bytes)
    select pg_temp.id(9, n), 'kind' || k, 1, 200, history_number(), 16384
    from generate_series(1, {devices} - 1) n, generate_series(0, 7) k;
insert into one_time_keys (device_id, kind, place, numbers, keys)
    select p.device_id, p.kind, 1, array[1], array[decode(repeat('ff', 16384), 'hex')] from key_pools p;
insert into notifiers (id, user_id, device_id, kind, target, target_hash, failing_since, failures, last_error)
    select pg_temp.id(8, n), pg_temp.id(0, 0), pg_temp.id(9, 1), 'webhook',
           jsonb_build_object('kind', 'webhook', 'secret', 'x', 'url', 'https://' || repeat(chr(92), 1016)),
           sha256(n::text::bytea), now(), 2147483647, repeat(chr(1), 200)
    from generate_series(1, {notifiers}) n;

create temporary table conversations_to_be as
    select pg_temp.id(1, n) as id, {shown} as size, 1 as messages, 65536 as content from generate_series(1, {groups}) n
    union all select pg_temp.id(2, 0), {users}, {messages}, 65536
    union all select pg_temp.id(3, 0), 2, {messages}, 0
    union all select pg_temp.id(4, 0), 2, {messages}, {even};
insert into conversations (id, kind, name, last_seq, participants_version, joiners_see_all, lifetime_s, settings_by)
    select id, 'group', pg_temp.name(), {base} + messages, {base}, false, 315360000, pg_temp.id(0, 1)
    from conversations_to_be;
insert into participants (conversation_id, user_id, role, joined_seq, since_seq, delivered_seq, read_seq, muted_until,
                          own_revision, changed_by)
    select id, pg_temp.id(0, n), 'member', {base}, {base} - 1, {base} + messages, {base}, now() + interval '9999 years',
           2147483647, pg_temp.id(0, 1 - mod(n, 2))
    from conversations_to_be, generate_series(0, size - 1) n;
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, is_avatar, is_shown)
    select id, pg_temp.id(0, 1), id::text, 5497558138880, 'a/b', sha256(''), now(), true, true
    from (select id from users union all select id from conversations) each;
update users set avatar = id;
update conversations set avatar = id;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce, ephemeral_public_key,
                      revision, edited, reply_to, attachments, thumbnail, device_id)
    select c.id, {base} + s, gen_random_uuid(), pg_temp.id(0, 1), now(), repeat(chr(1), 64),
           decode(repeat('ff', c.content), 'hex'),
           decode(repeat('ff', 64), 'hex'), decode(repeat('ff', 2048), 'hex'), 2147483647, now(), {base} + s - 1,
           array_fill(pg_temp.id(0, 0), array[10]),
           nullif(decode(repeat('ff', 16384 * (c.content / 65536)), 'hex'), ''), pg_temp.id(9, 1)
    from conversations_to_be c, generate_series(1, messages) s;

insert into analytics (day, metric, value)
    select '{first_day}'::date + n, metric, 9223372036854775807
    from generate_series(0, 365) n, unnest(array['messages', 'active_users', 'new_users', 'bytes_message_tables',
        'bytes_message_indexes', 'bytes_other_tables', 'bytes_other_indexes', 'bytes_objects',
        'attachments_missing']) metric;
insert into analytics (day, metric, value)
    select '{first_day}'::date + n, prefix || change, value
    from generate_series(0, 365) n, unnest(array['attachments_', 'attachment_bytes_']) prefix,
         (values ('uploaded', 10::bigint ^ 16), ('removed', 10::bigint ^ 15)) changes (change, value);
insert into security_events (kind, user_id, actor, device_id, network, client, detail, hour, times, last)
    select 'x' || repeat('y', 39), pg_temp.id(0, 0), 'operator', gen_random_uuid(), 'ffff:ffff:ffff::/48',
           repeat(chr(1), 256), jsonb_build_object('name', repeat(chr(1), 128)), now() - make_interval(hours => n::int),
           9223372036854775807, now()
    from generate_series(1, {events} - 1) n;
insert into latencies select '{first_day}'::date + n, 60, 9223372036854775807 from generate_series(0, 365) n;
"""


def user_id(number: int) -> UUID:
    return UUID(f"00000000-0000-4000-8000-{number:012x}")


async def fill(pool: Pool) -> Credentials:
    """Write the data; return the user whose answers are long."""
    data = _DATA.format(
        users=USERS,
        groups=GROUPS,
        messages=MESSAGES,
        devices=DEVICES,
        notifiers=MAX_NOTIFIERS,
        shown=MAX_SHOWN,
        base=BASE,
        even=MAX_CONTENT_BYTES // MAX_LIMIT - MAX_NONCE_BYTES - MAX_PUBLIC_KEY_BYTES - 17 * MAX_ATTACHMENTS,
        first_day=FIRST_DAY,
        events=EVENTS,
    )
    async with connected(pool.url) as connection:
        for statement in data.split(";\n"):
            if statement.strip():
                await connection.query(statement)
    return await new_device(pool, user_id(0).bytes, NAME)

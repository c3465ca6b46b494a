"""Impossible states: Postgres refuses them in any statement."""

from __future__ import annotations

import re

import pytest

from client.http import Credentials
from store.errors import DatabaseError
from store.postgres.pool import Pool
from tests.people import new_direct, new_group
from tests.rows import checked_rows

IMPOSSIBLE = {
    "a contact of oneself": "insert into contacts (user_id, contact_id) values ('{alice}', '{alice}')",
    "a contact that is nobody": "insert into contacts (user_id, contact_id) values ('{alice}', gen_random_uuid())",
    "a deleted user with a name": "update users set deleted = now(), display_name = 'a' where username = 'alice'",
    "an avatar that is no attachment": "update users set avatar = gen_random_uuid() where username = 'alice'",
    "one avatar of two users": (
        "with picture as (insert into attachments {file}, is_avatar, is_shown)"
        " values ({good}, true, true) returning id)"
        " update users set avatar = (select id from picture) where username in ('alice', 'bob')"
    ),
    "one avatar of two groups": (
        "with picture as (insert into attachments {file}, is_avatar, is_shown)"
        " values ({good}, true, true) returning id)"
        " update conversations set avatar = (select id from picture)"
    ),
    "an avatar of a message": (
        "with sent as (insert into messages {message} values ('{group}', 1, {rest}, null, null))"
        " insert into attachments {file}, conversation_id, seq, is_avatar) values ({good}, '{group}', 1, true)"
    ),
    "a shown file that is no avatar": "insert into attachments {file}, is_shown) values ({good}, true)",
    "a shown avatar that is orphaned": (
        "insert into attachments {file}, is_avatar, is_shown, orphaned) values ({good}, true, true, now())"
    ),
    "a name with a space": "update users set username = 'al ice' where username = 'alice'",
    "a second direct conversation": (
        "insert into conversations (id, kind, direct_low, direct_high) select gen_random_uuid(), kind, direct_low,"
        " direct_high from conversations where kind = 'direct'"
    ),
    "a direct conversation the wrong way round": (
        "update conversations set direct_low = direct_high, direct_high = direct_low where kind = 'direct'"
    ),
    "a group that somebody blocks in": "update conversations set low_blocks = true where kind = 'group'",
    "a direct conversation of one user": "update conversations set direct_low = direct_high where kind = 'direct'",
    "a conversation of two users' own devices": "update conversations set kind = 'self' where kind = 'direct'",
    "a group without a name": "update conversations set name = null where kind = 'group'",
    "a participant of an unknown role": "update participants set role = 'king'",
    "a participant who is nobody": (
        "insert into participants (conversation_id, user_id) values ('{group}', gen_random_uuid())"
    ),
    "read, but not delivered": "update participants set read_seq = 1",
    "a mark below nothing": "update participants set private_read_seq = -1",
    "a participant from before the first message": "update participants set since_seq = -1",
    "left before joining": (
        "insert into departures (user_id, conversation_id, since_seq, left_seq) values ('{alice}', '{group}', 2, 1)"
    ),
    "a message before the first": "insert into messages {message} values ('{group}', 0, {rest}, null, null)",
    "an answer to what is not there yet": "insert into messages {message} values ('{group}', 1, {rest}, 1, null)",
    "envelopes of nobody": "insert into envelopes values ('{group}', 1, 0, 0, '{{}}', '{{}}', 'x', now())",
    "an envelope without bytes": "insert into envelopes values ('{group}', 1, 0, 0, {a_device}, '{{0}}', '', now())",
    "envelopes of another length": "insert into envelopes values ('{group}', 1, 0, 0, {a_device}, '{{2}}', 'x', now())",
    "an envelope without an end": "insert into envelopes values ('{group}', 1, 0, 0, {a_device}, '{{}}', 'x', now())",
    "envelopes of no message": "insert into envelopes values ('{group}', 0, 0, 0, {a_device}, '{{1}}', 'x', now())",
    "a state of nothing": "insert into group_states values ('{group}', 0, 0, {state_of}, now(), 'x')",
    "a state without bytes": "insert into group_states values ('{group}', 1, 0, {state_of}, now(), '')",
    "a state that is too large": (
        "insert into group_states values ('{group}', 1, 0, {state_of}, now(), convert_to(repeat('x', 1048577), 'UTF8'))"
    ),
    "a state that no user put": (
        "insert into group_states values ('{group}', 1, 0, gen_random_uuid(), gen_random_uuid(), now(), 'x')"
    ),
    "a report without a reason": ("insert into undecryptable values ('{group}', 1, '{alice}', '{alice}', 0, '')"),
    "a deleted message with content": "insert into messages {message} values ('{group}', 1, {rest}, null, now())",
    "a verified address that is none": "insert into emails (user_id, verified) values ('{alice}', now())",
    "a mailbox by its name": "insert into mailboxes (mailbox_hash) values ('bob@alo.example')",
    "fewer mails than none": "insert into mailboxes (mailbox_hash, sent) values (sha256('x'), -1)",
    "an address without tokens": "insert into emails (user_id, address) values ('{alice}', 'a@b.example')",
    "a digest to an unverified address": "insert into emails (user_id, next_digest) values ('{alice}', now())",
    "a link that sets the password of no user": (
        "insert into password_resets (id, token_hash, expires) values (gen_random_uuid(), sha256('x'), now())"
    ),
    "a device of nobody": "insert into devices (id, user_id, name) values (gen_random_uuid(), gen_random_uuid(), 'x')",
    "a token by its text": (
        "insert into devices (id, user_id, name, family_hash, token_hash)"
        " values (gen_random_uuid(), '{alice}', 'x', sha256('f'), 'alo_x')"
    ),
    "a family of two devices": (
        "insert into devices (id, user_id, name, family_hash, token_hash)"
        " select gen_random_uuid(), '{alice}', 'x', sha256('f'), sha256('t') from generate_series(1, 2)"
    ),
    "more new tokens than are kept": (
        "insert into devices (id, user_id, name, next_hashes)"
        " values (gen_random_uuid(), '{alice}', 'x', array_fill(sha256('x'), array[5]))"
    ),
    "a token that was reused by a device that is logged in": (
        "insert into devices (id, user_id, name, is_reused) values (gen_random_uuid(), '{alice}', 'x', true)"
    ),
    "a program without a name": (
        "insert into devices (id, user_id, name, client) values (gen_random_uuid(), '{alice}', 'x', '')"
    ),
    "an identity without bytes": (
        "insert into devices (id, user_id, name, identity, identity_revision)"
        " values (gen_random_uuid(), '{alice}', 'x', '', 1)"
    ),
    "a one-time key without bytes": "insert into one_time_keys values ('{alice}', 'otk', 1, '{{1}}', '{{\"\"}}')",
    "a one-time key before the first": "insert into one_time_keys values ('{alice}', 'otk', 1, '{{0}}', '{{x}}')",
    "a one-time key without a number": "insert into one_time_keys values ('{alice}', 'otk', 1, '{{1}}', '{{x,y}}')",
    "keys of no device": "insert into key_pools (device_id, kind, history) values (gen_random_uuid(), 'otk', 1)",
    "an identity that was never published": (
        "insert into devices (id, user_id, name, identity) values (gen_random_uuid(), '{alice}', 'x', 'x')"
    ),
    "a change of devices of nobody": "insert into device_changes values ('{group}', gen_random_uuid(), 1)",
    "a second deletion of an account": (
        "insert into account_deletions (user_id, due, deletes_messages)"
        " select '{alice}', now(), false from generate_series(1, 2)"
    ),
    "a former name by its letters": "insert into former_usernames values ('alice', now())",
    "a second link with a token": (
        "insert into password_resets (id, user_id, token_hash, expires)"
        " select gen_random_uuid(), '{alice}', sha256('x'), now() from generate_series(1, 2)"
    ),
    "half an export that is ready": (
        "insert into exports (id, user_id, asked, ready) values (gen_random_uuid(), '{alice}', now(), now())"
    ),
    "an export without a part": (
        "insert into exports (id, user_id, asked, ready, expires, parts, size_bytes)"
        " values (gen_random_uuid(), '{alice}', now(), now(), now(), 0, 1)"
    ),
    "an event of a user by the name of an operator": (
        "insert into security_events (kind, actor, operator) values ('login', 'user', 'ops')"
    ),
    "an event by an unknown actor": "insert into security_events (kind, actor) values ('login', 'nobody')",
    "an event of a whole address": (
        "insert into security_events (kind, actor, network) values ('login', 'user', '192.0.2.7/32')"
    ),
    "an event that is counted without an hour": (
        "insert into security_events (kind, actor, times) values ('login_failed', 'user', 2)"
    ),
    "an event with a long detail": (
        "insert into security_events (kind, actor, detail)"
        " values ('login', 'user', jsonb_build_object('x', repeat('x', 1024)))"
    ),
    "an event counted twice in an hour": (
        "insert into security_events (kind, actor, hour, last)"
        " select 'login_failed', 'user', date_trunc('hour', now()), now() from generate_series(1, 2)"
    ),
    "an external identity of nobody": "insert into external_identities values ('i', 's', gen_random_uuid())",
    "a second user of an external identity": (
        "insert into external_identities select 'i', 's', id from users where username in ('alice', 'bob')"
    ),
    "a second external identity of a user": (
        "insert into external_identities values ('i', 's', '{alice}'), ('i', 't', '{alice}')"
    ),
    "an external identity without a name": "insert into external_identities values ('i', '', '{alice}')",
    "an external identity of no issuer": "insert into external_identities values ('', 's', '{alice}')",
    "an invitation by its code": (
        "insert into invitations (id, code_hash, expires, most_uses) values (gen_random_uuid(), 'alo_x', now(), 1)"
    ),
    "a second invitation with a code": (
        "insert into invitations (id, code_hash, expires, most_uses)"
        " select gen_random_uuid(), sha256('x'), now(), 1 from generate_series(1, 2)"
    ),
    "an invitation for nobody": (
        "insert into invitations (id, code_hash, expires, most_uses) values (gen_random_uuid(), sha256('x'), now(), 0)"
    ),
    "an invitation that more have used than may": (
        "insert into invitations (id, code_hash, expires, most_uses, uses)"
        " values (gen_random_uuid(), sha256('x'), now(), 1, 2)"
    ),
    "a second key of mails": "insert into mail_key (key) select key from mail_key",
    "an attachment of half a message": ("insert into attachments {file}, seq) values ({good}, 1)"),
    "an attachment of no message": (
        "insert into attachments {file}, conversation_id, seq) values ({good}, '{group}', 99)"
    ),
    "an orphaned attachment of a message": (
        "with sent as (insert into messages {message} values ('{group}', 1, {rest}, null, null))"
        " insert into attachments {file}, conversation_id, seq, orphaned) values ({good}, '{group}', 1, now())"
    ),
    "an incomplete attachment of a message": (
        "with sent as (insert into messages {message} values ('{group}', 1, {rest}, null, null))"
        " insert into attachments {file}, part_digests, conversation_id, seq)"
        " values (gen_random_uuid(), '{alice}', 'k', 1, 'a/b', sha256('x'), null, sha256('x'), '{group}', 1)"
    ),
    "an attachment of no size": (
        "insert into attachments {file}) values (gen_random_uuid(), '{alice}', 'k', 0, 'a/b', sha256('x'), now())"
    ),
    "an attachment with half a digest": (
        "insert into attachments {file}) values (gen_random_uuid(), '{alice}', 'k', 1, 'a/b', '\\x00', now())"
    ),
    "an incomplete attachment without digests of its parts": (
        "insert into attachments {file}) values (gen_random_uuid(), '{alice}', 'k', 1, 'a/b', sha256('x'), null)"
    ),
    "a complete attachment with digests of its parts": (
        "insert into attachments {file}, part_digests) values ({good}, sha256('x'))"
    ),
    "a second usage of a user": ("insert into attachment_usage (user_id) select '{alice}' from generate_series(1, 2)"),
    "a usage of less than nothing": "insert into attachment_usage (user_id, stored_bytes) values ('{alice}', -1)",
    "a second total": "insert into attachment_total default values",
    "a total of less than nothing": "update attachment_total set stored_bytes = -1",
    "a total of less than no complete file": "update attachment_total set complete_files = -1",
    "a total of less than no complete byte": "update attachment_total set complete_bytes = -1",
    "half a digest of a part": (
        "insert into attachments {file}, part_digests)"
        " values (gen_random_uuid(), '{alice}', 'k', 1, 'a/b', sha256('x'), null, '\\x00')"
    ),
    "a presence of nobody": "insert into last_seen values (gen_random_uuid(), now())",
    "a limit of nobody": "insert into starts (user_id) values (gen_random_uuid())",
    "a stay that ended before it began": ("insert into stays values ('{group}', '{alice}', 2, 1, 0, 0, null, now())"),
    "a withheld participant of an unknown role": (
        "insert into withheld (conversation_id, user_id, role) values ('{group}', '{alice}', 'king')"
    ),
    "a second history": "insert into history (is_only) values (true)",
    "a job of a task without a name": "insert into jobs (task) values ('')",
    "a job with long arguments": (
        "insert into jobs (task, payload) values ('x', jsonb_build_object('x', repeat('x', 16384)))"
    ),
    "a second job that waits with a key": ("insert into jobs (task, key) select 'x', 'k' from generate_series(1, 2)"),
    "a dead job of Redis twice": (
        "insert into dead_jobs (id, task, payload, attempts, reason, volatile_id)"
        " select n, 'x', '{{}}', 1, 'x', 'v' from generate_series(1, 2) n"
    ),
    "a schedule that misses in an unknown way": (
        "insert into schedules (name, task, rule, missed, next) values ('x', 'x', 'every 1 s', 'some', now())"
    ),
    "a notifier of an unknown kind": "insert into notifiers {notifier}) values ({of_alice}, 'fax', sha256('x'))",
    "a notifier by its address": "insert into notifiers {notifier}) values ({of_alice}, 'email', 'https://x')",
    "a second notifier with a target": (
        "insert into notifiers {notifier}) select {of_alice}, 'email', sha256('x') from generate_series(1, 2)"
    ),
    "a notifier that fails without an error": (
        "insert into notifiers {notifier}, failing_since) values ({of_alice}, 'email', sha256('x'), now())"
    ),
    "a second notice of a notifier": (
        "insert into notices (user_id, name, told, times, unread, delivered, read)"
        " select '{alice}', 'x', now(), 1, 1, 0, 0 from generate_series(1, 2)"
    ),
    "quiet hours that never end": "insert into quiet_hours values ('{alice}', 60, 60, 'UTC')",
    "quiet hours after the end of the day": "insert into quiet_hours values ('{alice}', 1, 1440, 'UTC')",
    "a token of a mail by its text": ("insert into sent_verifications values ('alo_x', sha256('a@b.example'), now())"),
    "an address of a mail by its letters": (
        "insert into sent_verifications values (sha256('x'), 'a@b.example', now())"
    ),
    "a latency of less than none": "insert into latencies values (current_date, 1, -1)",
}
"""A statement for each impossible state; the rest of its row is valid."""

MESSAGE = "(conversation_id, seq, id, sender_id, created, content_type, content, reply_to, deleted)"
FILE = "(id, user_id, object_key, size_bytes, media_type, digest, completed"
GOOD = "gen_random_uuid(), '{alice}', 'k', 1, 'a/b', sha256('x'), now()"
NOTIFIER = "(id, user_id, target, kind, target_hash"
OF_ALICE = "gen_random_uuid(), '{alice}', '{{}}'"
REST = "gen_random_uuid(), '{alice}', now(), 'text', 'x'"


A_DEVICE = "array[gen_random_uuid()]"


async def test_impossible_state_is_refused(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    await new_direct(pool, alice, bob)
    ids = {"alice": alice.user.hex(), "group": (await new_group(pool, alice, bob)).hex()}
    with checked_rows() as rows:
        for name, impossible in IMPOSSIBLE.items():
            with rows.row(name):
                statement = impossible.format(
                    **ids,
                    message=MESSAGE,
                    rest=REST.format(**ids),
                    file=FILE,
                    good=GOOD.format(**ids),
                    notifier=NOTIFIER,
                    of_alice=OF_ALICE.format(**ids),
                    a_device=A_DEVICE,
                    state_of="'{alice}', gen_random_uuid()".format(**ids),
                )
                with pytest.raises(DatabaseError) as refused:
                    await pool.fetch(statement)
                assert refused.value.sqlstate[:2] == "23", "by a constraint, not for a mistake in it"


async def test_each_table_with_a_constraint_has_an_impossible_state(pool: Pool) -> None:
    """Beside its primary key. A new table fails here until it has a row above."""
    rows = await pool.fetch(
        "select distinct c.conrelid::regclass::text from pg_constraint c"
        " where c.contype in ('c', 'f', 'u') and c.connamespace = 'public'::regnamespace"
    )
    tried = {table for each in IMPOSSIBLE.values() for table in re.findall(r"(?:insert into|update) ([a-z_]+)", each)}
    assert {table for (table,) in rows} - tried == set()

"""The cost of each read on a million messages: one query, by indexes alone, and no more rows than a page has.

One conversation has half of them, 20,000 others the rest; created once for all tests here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from typing import Any, Final

import psycopg
import pytest

from embedded.postgres import PostgresServer
from server.http.conditional import EntityTags
from server.http.first_pages import FirstPages
from store import (
    accounts,
    contacts,
    conversations,
    history_pages,
    last_seen,
    list_pages,
    marks,
    messages,
    participant_lists,
    tokens,
)
from store.errors import TokenUnknown
from store.postgres.driver import PostgresConnection, connected
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from tests.conftest import TEMPLATE, database_of

DEEP: Final = 500_000
SHALLOW: Final = 20_000
USERS: Final = 2_000
PAGE: Final = 50
TOKEN: Final = "0"
"""The token of a device of the first user."""

FILL = f"""
insert into users (id, username, password_hash)
    select md5('u' || n)::uuid, 'user' || n, 'x' from generate_series(0, {USERS - 1}) n;
insert into devices (id, user_id, name, family_hash, token_hash)
    select md5('d' || n)::uuid, md5('u' || n)::uuid, 'd', h, h
    from generate_series(0, {USERS - 1}) n, sha256(convert_to(n::text, 'UTF8')) h;
insert into contacts (user_id, contact_id)
    select md5('u' || n)::uuid, md5('u' || (n + k) % {USERS})::uuid
    from generate_series(0, {USERS - 1}) n, generate_series(1, 20) k;
insert into conversations (id, kind, name, last_seq, active_at)
    select md5('c' || n)::uuid, 'group', 'g', case when n = 0 then {DEEP} else {DEEP // SHALLOW} end,
           now() - make_interval(secs => n)
    from generate_series(0, {SHALLOW}) n;
-- The first user takes part in 500 conversations, everybody in some 30.
insert into participants (conversation_id, user_id)
    select md5('c' || n)::uuid, md5('u' || (n * 3 + k * 7) % {USERS})::uuid
    from generate_series(0, {SHALLOW}) n, generate_series(0, 2) k
    union select md5('c' || n)::uuid, md5('u0')::uuid from generate_series(0, 499) n;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
    select md5('c0')::uuid, n, gen_random_uuid(), md5('u0')::uuid, now() - interval '1 day', 'text', 'some content'
    from generate_series(1, {DEEP}) n;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
    select md5('c' || n)::uuid, seq, gen_random_uuid(), md5('u' || n * 3 % {USERS})::uuid, now() - interval '1 day',
           'text', 'some content'
    from generate_series(1, {SHALLOW}) n, generate_series(1, {DEEP // SHALLOW}) seq;
insert into attachments (id, user_id, object_key, size_bytes, media_type, digest, completed, conversation_id, seq)
    select m.id, m.sender_id, 'attachments/' || m.id, 1, 'image/jpeg', sha256(''), now(), m.conversation_id, m.seq
    from messages m where m.seq = 1;
insert into hidden (user_id, conversation_id, seq)
    select p.user_id, p.conversation_id, 3 from participants p;
insert into departures (user_id, conversation_id, since_seq, left_seq)
    select md5('u' || (n * 3 + 4) % {USERS})::uuid, md5('c' || n)::uuid, 0, 5 from generate_series(0, {SHALLOW}, 2) n;
insert into stays (conversation_id, user_id, since_seq, left_seq, delivered_seq, read_seq, departed)
    select md5('c' || n)::uuid, md5('u' || (n * 3 + 5) % {USERS})::uuid, 0, 5, 0, 0, now()
    from generate_series(0, {SHALLOW}, 2) n;
insert into withheld (conversation_id, user_id, joined_seq, since_seq, delivered_seq, read_seq)
    select md5('c' || n)::uuid, md5('u' || (n * 3 + 2) % {USERS})::uuid, 0, 0, 0, 0
    from generate_series(0, {SHALLOW}, 4) n;
update contacts set is_blocked = true, last_seen = now() where ctid in (select ctid from contacts limit 500);
insert into last_seen (user_id, at) select id, now() from users;
"""


@pytest.fixture(scope="module")
def million_url(postgres_with_template: PostgresServer) -> Iterator[str]:
    url = database_of(postgres_with_template, "million")
    with psycopg.connect(postgres_with_template.url, autocommit=True) as admin:
        admin.execute(f"create database million template {TEMPLATE}")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL.encode())
            # The triggers that count attachments have left many versions of each user.
            connection.execute("vacuum analyze")
        yield url
        admin.execute("drop database million with (force)")


@pytest.fixture
def million(million_url: str) -> Iterator[Pool]:
    with closing(Pool(million_url, 1)) as pool:
        yield pool


@pytest.fixture
async def user(million: Pool) -> bytes:
    [(user,)] = await million.fetch("select md5('u0')::uuid")
    return bytes(user)


@pytest.fixture
async def deep(million: Pool) -> bytes:
    [(conversation,)] = await million.fetch("select md5('c0')::uuid")
    return bytes(conversation)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that any connection ran."""
    run: list[str] = []
    query, run_encoded, run_all = PostgresConnection.query, PostgresConnection.run_encoded, PostgresConnection.run_all

    async def noted_query(self: PostgresConnection, sql: str, parameters: Any = ()) -> Any:
        run.append(sql)
        return await query(self, sql, parameters)

    async def noted_run(self: PostgresConnection, statement: Statement, parameters: Any) -> Any:
        run.append(statement.sql.decode())
        return await run_encoded(self, statement, parameters)

    async def noted_all(self: PostgresConnection, reads: Any) -> Any:
        run.extend(statement.sql.decode() for statement, _ in reads)
        return await run_all(self, reads)

    monkeypatch.setattr(PostgresConnection, "query", noted_query)
    monkeypatch.setattr(PostgresConnection, "run_encoded", noted_run)
    monkeypatch.setattr(PostgresConnection, "run_all", noted_all)
    return run


Op = Callable[[Pool, bytes, bytes], Awaitable[Any]]
OPERATIONS: Final[dict[str, tuple[Op, int]]] = {
    "the list": (lambda p, u, c: conversations.list_of(p, u, limit=PAGE), 1),
    "the list, a page on": (
        lambda p, u, c: conversations.list_of(p, u, limit=PAGE, before=(2**62, b"\xff" * 16)),
        1,
    ),
    "the list, with its version": (lambda p, u, c: list_pages.first_page(p, u, limit=PAGE), 1),
    "the list, by token": (lambda p, u, c: list_pages.first_page_for(p, TOKEN, limit=PAGE), 1),
    "the list's state": (lambda p, u, c: list_pages.list_state_for(p, TOKEN, limit=PAGE), 1),
    "some of the list": (lambda p, u, c: list_pages.listed(p, u, [c, u]), 1),
    "one conversation": (lambda p, u, c: conversations.one(p, u, c), 1),
    "some conversations": (lambda p, u, c: conversations.some_of(p, u, [c, u]), 1),
    "history": (lambda p, u, c: messages.history(p, u, c, limit=PAGE), 1),
    "history from the middle": (lambda p, u, c: messages.history(p, u, c, limit=PAGE, before=DEEP // 2), 1),
    "history from the beginning": (lambda p, u, c: messages.history(p, u, c, limit=PAGE, after=0), 1),
    "history around": (lambda p, u, c: messages.history_around(p, u, c, around=DEEP // 2, limit=PAGE), 1),
    "history's version": (lambda p, u, c: history_pages.history_version_for(p, TOKEN, c), 1),
    "the newest messages": (lambda p, u, c: history_pages.newest(p, u, c, limit=PAGE, max_bytes=9999, after=9), 1),
    "the newest messages, by token": (
        lambda p, u, c: history_pages.newest_for(p, TOKEN, c, limit=PAGE, max_bytes=9999),
        1,
    ),
    "a range": (lambda p, u, c: messages.messages_between(p, c, [u], after=DEEP // 2, upto=DEEP, limit=PAGE), 1),
    "participants": (lambda p, u, c: messages.current_participants(p, c), 1),
    "who may be watched": (lambda p, u, c: participant_lists.watchable(p, u, [u, c]), 1),
    "who may be watched no more": (lambda p, u, c: participant_lists.unwatchable(p, [(u, c), (c, u)]), 1),
    "who sees a name": (lambda p, u, c: participant_lists.acquainted(p, u), 1),
    "how many take part": (lambda p, u, c: participant_lists.participant_counts(p, [(c, u), (u, c)]), 1),
    "a message's status": (lambda p, u, c: marks.message_status(p, u, c, DEEP), 1),
    "counts of receipts": (lambda p, u, c: marks.receipt_counts(p, c, after=DEEP - 50, upto=DEEP, limit=20), 1),
    "contacts": (lambda p, u, c: contacts.list_of(p, u, limit=PAGE), 1),
    "last seen": (lambda p, u, c: last_seen.last_seen(p, [u]), 1),
    "one conversation, by token": (lambda p, u, c: conversations.entry_for(p, TOKEN, c), 1),
    "a token": (lambda p, u, c: tokens.device_by_token(p, "none"), 1),
    "a user": (lambda p, u, c: accounts.user_by_name(p, "user7"), 1),
    "a cached list": (lambda p, u, c: twice(FirstPages(p, EntityTags(p)).first_of_list, TOKEN, PAGE, "json"), 3),
    "a cached history": (lambda p, u, c: twice(FirstPages(p, EntityTags(p)).newest_of, TOKEN, c, PAGE, "json"), 3),
}


async def twice(read: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    """The first time the history of the database is read, too; the second time only the version."""
    for _ in range(2):
        await read(*arguments)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_each_read_is_one_query(
    million: Pool, user: bytes, deep: bytes, name: str, statements: list[str]
) -> None:
    operation, count = OPERATIONS[name]
    statements.clear()
    with suppress(TokenUnknown):
        await operation(million, user, deep)
    assert len(statements) == count, statements


FIRST: Final = {"is_request": False, "before": 2**62, "before_id": bytes(16), "limit": PAGE + 1, **conversations.MOST}
READS: Final[list[tuple[str, Statement, dict[str, Any]]]] = [
    ("list", conversations.LIST_PAGE.by_user, {"user": b"", **FIRST}),
    ("first page", list_pages.FIRST_PAGE.by_user, {"user": b"", **FIRST}),
    ("first page, by token", list_pages.FIRST_PAGE.by_token, {**tokens.hashes(TOKEN), **FIRST}),
    (
        "state",
        list_pages.LIST_STATE.by_token,
        {**tokens.hashes(TOKEN), "limit": PAGE + 1, "most": 32, "one": 0, "other": 0},
    ),
    (
        "some of the list",
        list_pages.CHANGED.by_user,
        {"user": b"", "conversations": [b""], "bases": [None], "marks": None, **conversations.MOST},
    ),
    (
        "chosen",
        conversations.CHOSEN.by_user,
        {"user": b"", "conversations": [b""], "bases": [None], "marks": None, **conversations.MOST},
    ),
    *[
        (f"{name} {at}", statement, {"user": b"", "conversation": b"", "limit": PAGE + 1, "bytes": None, **bounds})
        for at in (1, DEEP // 2, DEEP)
        for name, statement, bounds in (
            ("before", messages.HISTORY_BEFORE, {"before": at}),
            ("after", messages.HISTORY_AFTER, {"before": 2**62, "after": at}),
        )
    ],
    (
        "around",
        messages.HISTORY_AROUND,
        {"user": b"", "conversation": b"", "around": DEEP // 2, "older": 26, "newer": 26, "bytes": None},
    ),
    (
        "history's version",
        history_pages.HISTORY_VERSION.by_token,
        {**tokens.hashes(TOKEN), "conversation": b""},
    ),
    *[
        (
            f"newest above {at}",
            history_pages.NEWEST.by_user,
            {"user": b"", "conversation": b"", "after": at, "limit": PAGE + 1, "bytes": 2**20},
        )
        for at in (0, DEEP // 2, DEEP - 1)
    ],
    (
        "range",
        messages.MESSAGES_BETWEEN,
        {"conversation": b"", "users": [b""], "after": DEEP // 2, "upto": DEEP, "limit": PAGE},
    ),
    ("participants", messages.CURRENT_PARTICIPANTS, {"conversation": b""}),
]

USERS_CONVERSATIONS: Final = 560
"""About how many conversations the first user has; the list chooses a page from them."""


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", [name for name, *_ in READS])
async def test_each_read_goes_by_indexes_and_reads_no_more_than_it_shows(
    million: Pool, user: bytes, deep: bytes, name: str, mode: str
) -> None:
    """No table is scanned; a sort covers a page, or the user's conversations on the way to one."""
    _, statement, values = next(read for read in READS if read[0] == name)
    given = {"user": user, "users": [user], "conversation": deep, "conversations": [deep]}
    values = {key: given.get(key, value) for key, value in values.items()}
    await million.fetch(f"set plan_cache_mode = {mode}")
    plan = await explain(million, statement, values)
    nodes = list(flatten(plan))
    assert [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"] == []
    for node in nodes:
        rows = node["Actual Rows"] * node["Actual Loops"]
        most = 5 * USERS_CONVERSATIONS if node.get("Alias") not in ("m", "m_1") else PAGE + 2
        assert rows <= most, f"{node['Node Type']} of {node.get('Relation Name')}: {rows} rows"
        if node["Node Type"] == "Sort" and node.get("Sort Method") != "top-N heapsort":
            assert node["Actual Rows"] <= PAGE + 2


async def explain(pool: Pool, statement: Statement, values: dict[str, Any]) -> dict[str, Any]:
    """Postgres' plan for a statement with these values, as it was run."""
    names = iter(values)
    assert set(statement.parameters) == set(names)
    async with connected(pool.url) as connection:
        types = ", ".join(str(TYPE_NAMES[oid]) for oid in statement.oids)
        await connection.query(f"prepare it ({types}) as {statement.sql.decode()}")
        literals = ", ".join(
            literal(values[name], oid) for name, oid in zip(statement.parameters, statement.oids, strict=True)
        )
        [(mode,)] = await pool.fetch("show plan_cache_mode")
        await connection.query(f"set plan_cache_mode = {mode}")
        [(found,)] = await connection.query(f"explain (analyze, format json) execute it ({literals})")
    plan = found if isinstance(found, list) else json.loads(found)
    return dict(plan[0]["Plan"])


TYPE_NAMES: Final = {
    2950: "uuid",
    20: "bigint",
    2951: "uuid[]",
    1016: "bigint[]",
    16: "boolean",
    25: "text",
    1009: "text[]",
    17: "bytea",
    23: "int",
}


def literal(value: Any, oid: int) -> str:
    if value is None:
        return "null"
    if oid in (1009, 2951):
        return "array[" + ", ".join(literal(each, 2950) for each in value) + f"]::{TYPE_NAMES[oid]}"
    if oid == 17:
        return f"'\\x{value.hex()}'::bytea"
    return f"'{value.hex()}'::uuid" if oid == 2950 else str(value)


def flatten(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from flatten(child)


async def test_every_index_serves_a_query(million: Pool) -> None:
    """Besides those of primary keys and unique constraints; each is listed with its purpose."""
    rows = await million.fetch(
        "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid"
        " join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and not i.indisunique"
    )
    assert {row[0] for row in rows} == {
        "devices_user",  # devices_of
        "devices_revoked",  # ended_since
        "users_suspended",  # ended_since
        "contacts_blocked",  # users whose display names are not shown
        "emails_verified",  # ask_password_reset, by address
        "password_resets_user",  # ask_password_reset, how many were asked for
        "password_resets_asked",  # forget_resets
        "exports_user",  # exports_of
        "exports_asked",  # old_exports, those that have failed
        "exports_expires",  # old_exports
        "contacts_contact",  # delete_contacts
        "account_deletions_due",  # the account to delete next
        "account_deletions_untold",  # untold
        "invitations_expires",  # open_invitations, forget_invitations
        "former_usernames_until",  # forget_usernames
        "dead_jobs_user",  # anonymise_user
        "contacts_blockers",  # users who see neither the profile nor the typing of a user
        "withheld_user",  # a user's profile
        "departures_conversation",  # former stays
        "device_changes_user",  # small_changes
        "messages_uncounted",  # messages that no longer count as unread
        "participants_user",  # the list, sync, users who share a conversation
        "jobs_due",  # relay
        "dead_jobs_task",  # dead_jobs, replay
        "dead_jobs_died",  # forget_dead
        "envelopes_created",  # forget_envelopes
        "undecryptable_device",  # report_undecryptable
        "undecryptable_sender",  # has_reports, told_reports
        "undecryptable_at",  # reported_since, forget_reports
        "revisions_changed",  # sync
        "revisions_at",  # revised_since
        "hidden_at",  # revised_since
        "hidden_message",  # clear
        "attachments_of_message",  # deleting a message, whose attachments refer to it
        "sends_created",  # forget_temp_ids
        "expiries_oldest",  # move_floors, by the deployment's rule
        "expiries_due",  # move_floors, by a conversation's lifetime
        "expiries_uncleared",  # unannounced, uncleared
        "devices_ended",  # forget_tokens
        "devices_identity_expires",  # end_expired_identities
        "key_claims_since",  # forget_claims
        "key_pools_low",  # low_since
        "attachments_unused",  # orphaned
        "attachments_unused_of_user",  # declare
        "users_created",  # count_day
        "notifiers_device",  # forget those of a revoked device
        "notices_notifier",  # removing a notifier, whose notices refer to it
        "notices_look",  # enqueue_withdrawals
        "notifiers_hash",  # a device at a push service is its last user's
        "emails_digest",  # ask_digests
        "mailboxes_sent",  # forget_mailboxes
        "sent_verifications_address",  # take_verification, whether a link of this address is still good
        "sent_verifications_expires",  # forget_sent
        "security_events_user",  # events_of
        "security_events_at",  # forget_events, recent_events
        "security_events_own",  # note_security_event, how many the user has of a kind
    }
    moved = await million.fetch(
        "select c.relname::text, pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid"
        " where c.relname in ('conversations', 'participants')"
    )
    for _, definition in moved:
        assert not re.search(r"last_seq|active_at|delivered_seq|read_seq|changed", definition), (
            "the index would end HOT updates"
        )

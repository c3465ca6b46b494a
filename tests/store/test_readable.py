"""Which messages a user may read, and which of them as tombstones: one rule for all ways to read them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from functools import partial
from importlib import resources
from typing import Final

import pytest

from client.http import Credentials
from protocol.frames import Message, Tombstone
from store import contacts, conversations, marks, messages, notifiers, participants, retention, revisions, sql
from store.errors import NotAParticipant, NotTheSender, StoreError, UnknownMessage
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.rows import message_of
from store.sync import PAGE_MESSAGES, RECEIPT_COUNTS
from tests.ageing import age
from tests.people import new_direct, new_group
from tests.rows import each_row
from tests.store.store_world import a_message

PAST_THE_RULE: Final = {
    "readable_messages()": "is the rule",
    "uncounted_seqs()": "the seqs of tombstones, by indexes that hold nothing else",
    "send_one()": "writes",
    "send_batch()": "writes",
    "unsent()": "tells a sender that repeats a send what the message of the first one has",
    "message_to_change()": "reads one message above floor_of(), for a change that says why it may not be",
    "edit_message()": "changes the message of message_to_change()",
    "add_envelopes()": "changes the message of message_to_change()",
    "erase_message()": "changes the message of message_to_change(), or one that erase_own_messages() has found",
    "erase_own_messages()": "finds the messages that a user has sent, to delete them with the account",
    "exported.messages": "after a user has left: the messages that the user has sent, for the user's own export",
    "add_participant()": "finds the seq of the last message that a user has written",
    "first_unseen()": "searches for a seq",
    "expired_upto()": "searches for a seq",
    "move_floors()": "retention",
    "retention.unannounced": "retention",
    "retention.below": "retention: what is archived, for nobody in particular",
    "retention.clear": "retention",
    "messages.sent_before": "which device wrote a message that its sender repeats, and its running number",
    "quiet_upto()": "a running number, which is the same for every user",
    "first_counted()": "searches for a seq",
    "messages.messages_between": "a node that missed messages: holders_of() and hiders_of() say whom it tells",
    "messages.active_conversations": "a node that may have missed messages: seqs alone",
    "messages.expected_deliveries": "a node that may have missed messages: it asks holders_of() for the users of each",
    "revisions.revised_since": "a node that may have missed changes: holders_of() and hiders_of() say whom it tells",
    "marks.mark": "finds the senders of messages that a mark has passed",
    "marks.receipt_counts": "finds the senders of messages that marks have passed, above floor_of() each sender",
    "outbox.decide": "for which users to enqueue a job, which looks at what waits by the rule",
    "outbox.end_read_windows": "for which users to enqueue a job, which looks at what waits by the rule",
    "inspected_messages.message": "an operator asks for a message without its content",
}
"""Queries and functions that read the table messages themselves, and why they need not go through
readable_messages()."""

_TABLE: Final = re.compile(r"(?:\b(?:from|join|into|update|using)|,)\s+messages\b", re.IGNORECASE)
_OWN_VIEW: Final = re.compile(r"\bhidden\b|\bis_silent\b", re.IGNORECASE)
_GREATEST: Final = re.compile(r"\bgreatest\s*\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)", re.IGNORECASE)
_FLOOR: Final = re.compile(r"\b(?:joined_seq|floor_seq)\b", re.IGNORECASE)
_ABOVE: Final = re.compile(
    r"[<>]=?\s*(?:\(\s*select\s+)?(?:\w+\.)?(?:joined_seq|floor_seq)\b|\b(?:joined_seq|floor_seq)\s*[<>]", re.IGNORECASE
)
_COMMENT: Final = re.compile(r"--[^\n]*")


def texts() -> dict[str, str]:
    """All queries and functions, without comments."""
    files = [file for file in resources.files(sql).iterdir() if file.name.endswith(".sql")]
    found = {
        f"{file.name.removesuffix('.sql')}.{name}": text
        for file in files
        for name, text in vars(sql.load(file.name.removesuffix(".sql"))).items()
    }
    for file in resources.files(sql).joinpath("functions").iterdir():
        found[f"{file.name.removesuffix('.sql')}()"] = file.read_text()
    return {name: _COMMENT.sub("", text) for name, text in found.items()}


def test_nothing_reads_messages_for_a_user_but_through_the_rule() -> None:
    """A query that fails here should read readable_messages(); or it is named above, with a reason."""
    assert {name for name, text in texts().items() if _TABLE.search(text)} == set(PAST_THE_RULE)


OWN_VIEWS: Final = {
    "readable_messages()": "is the rule: which messages a user sees as tombstones",
    "holders_of()": "is the rule: which users are told of a message",
    "hiders_of()": "is the rule: which users are told a tombstone alone",
    "uncounted_seqs()": "the seqs of a user's tombstones, by indexes that hold nothing else",
    "shown_deleter()": "a part of readable_messages(): a message that the user deleted first names no administrator",
    "unseen_messages()": "which tombstones are new to a cursor; their messages come from readable_messages()",
    "history_pages.state": "whether the user has deleted any message of the conversation, for the key of a cached page",
    "revisions.revised_since": "which messages users have deleted for themselves lately, to tell these users",
    "sync.counts": "others show no mark for a silent message, so its sender is told no counts",
    "marks.receipt_counts": "others show no mark for a silent message, so its sender is told no counts",
    "outbox.decide": "a silent message causes no notice to any user",
    "send_one()": "writes is_silent",
    "send_batch()": "writes is_silent",
    "edit_message()": "refuses a message that its sender has deleted; hides an edit from a user that blocks the sender",
    "add_envelopes()": "refuses a message that its sender has deleted",
    "report_undecryptable()": "refuses a message that the user has deleted, or that is silent for the user",
    "hide_message()": "writes hidden; a silent message did not count as unread before",
    "retention.clear": "deletes rows of hidden with their messages",
    "account_deletions.delete_rows": "deletes the rows of hidden of a user whose account is deleted",
    "analytics.note_storage": "names the table among those whose bytes are counted",
    "inspected_messages.message": "an operator asks why a message caused no notice",
}
"""Queries and functions that ask whether a user has deleted a message, or whether it is silent, and why they do."""


def test_nothing_asks_for_deleted_or_silent_messages_but_through_the_rules() -> None:
    """A query that fails here should read readable_messages(), holders_of() or hiders_of(), or is named above, with a
    reason."""
    assert {name for name, text in texts().items() if _OWN_VIEW.search(text)} == set(OWN_VIEWS)


FLOORS: Final = {
    "floor_of()": "is the rule",
    "count_base()": "the base of unread counts without the conversation's floor: it has no row of the conversation",
    "unread_count()": "the base of unread counts, which is never lower than the floor",
    "uncounted_between()": "counts what lies above the base that the caller gives, and above the conversation's floor",
    "requests_waiting()": "the base of unread counts, which is never lower than the floor",
    "conversations.columns": "the base of unread counts, which is never lower than the floor",
    "outbox.wait_for_read": "the base of unread counts, which is never lower than the floor",
    "send_one()": "has not read the whole row of the conversation",
    "marks.receipt_counts": "the conversation's floor, to read fewer messages: floor_of() each sender follows",
    "move_floors()": "moves floors",
    "leave_conversations()": "whether a conversation that nobody reads any more has messages above its floor",
    "abandon_conversation()": "moves the floor of a conversation that nobody can read",
    "retention.unannounced": "what lies below the conversation's floor",
    "retention.below": "what lies below the conversation's floor",
    "retention.clear": "what lies below the conversation's floor",
    "orphans.orphan_below_floors": "what lies below the conversation's floor",
    "inspected_messages.recipients": "shows an operator the place after which a user takes part",
    "inspected_users.behind": "shows an operator how far a user's marks are, which no floor passes",
}
"""Queries and functions that compute by themselves which messages lie above or below a floor, and why they do."""


def compares_floors(text: str) -> bool:
    """Whether a query takes the greater of a floor and something else, or compares a seq with a floor."""
    return bool(_ABOVE.search(text)) or any(_FLOOR.search(found) for found in _GREATEST.findall(text))


def test_nothing_works_out_the_floor_of_a_participant_but_floor_of() -> None:
    assert {name for name, text in texts().items() if compares_floors(text)} == set(FLOORS)


@each_row(
    ("text", "is_found"),
    [
        ("greatest(c.floor_seq, p.joined_seq)", True),
        ("greatest(count_base(p), c.floor_seq) < m.seq", True),
        ("greatest(1, (select c.floor_seq from conversations c where c.id = any(x)))", True),
        ("greatest(1, greatest(p.read_seq, p.joined_seq))", True),
        ("where p.joined_seq < m.seq", True),
        ("where m.seq > p.joined_seq", True),
        ("where m.seq <= c.floor_seq", True),
        ("where m.seq > (select c.floor_seq from conversations c)", True),
        ("where m.seq > floor_of(c, p)", False),
        ("select greatest(p.read_seq, p.since_seq), p.joined_seq, c.floor_seq", False),
    ],
)
def test_a_comparison_with_a_floor_is_found_however_it_is_written(text: str, is_found: bool) -> None:
    assert compares_floors(text) == is_found


@each_row(
    ("text", "is_found"),
    [
        ("select 1 from messages m", True),
        ("select 1 from participants p, messages m", True),
        ("select 1 from participants p join messages m on true", True),
        ("delete from sends s using messages m", True),
        ("UPDATE\n  messages m set seq = 1", True),
        ("select 1 from readable_messages(c.id, p.user_id, floor_of(c, p)) m", False),
        ("select 'messages', count(*) from outbox", False),
    ],
)
def test_the_table_is_found_however_it_is_read(text: str, is_found: bool) -> None:
    assert bool(_TABLE.search(text)) == is_found


async def say(pool: Pool, conversation: bytes, sender: Credentials, times: int = 1) -> int:
    """The seq of the last message."""
    for _ in range(times):
        [sent] = await send(pool, ParticipantsCache(), [a_message(conversation, sender.user)])
        assert isinstance(sent, Committed)
    return sent.seq


State = Callable[[Pool, Credentials, Credentials], Awaitable[bytes]]
"""Makes a conversation whose last message, of alice, is in some state for bob."""


async def plain(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice, 2)
    return talk


async def deleted(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    talk = await plain(pool, alice, bob)
    await revisions.delete_for_everyone(pool, alice.user, talk, 2)
    return talk


async def hidden(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    talk = await plain(pool, alice, bob)
    await revisions.delete_for_me(pool, bob.user, talk, 2)
    return talk


async def silent(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    await say(pool, talk, alice)
    return talk


async def below_the_floor(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    talk = await plain(pool, alice, bob)
    await age(pool, talk)
    await retention.move_floors(pool, days=50, archives=False, limit=9)
    return talk


async def from_before_bob_joined(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    group = await new_group(pool, alice)
    await say(pool, group, alice, 2)
    await participants.add(pool, alice.user, group, bob.user)
    return group


async def below_bobs_own_floor(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    """Alice blocks bob, whose lifetime of messages holds for him alone."""
    talk = await plain(pool, alice, bob)
    await contacts.set_blocked(pool, alice.user, bob.user, is_blocked=True)
    await participants.change_settings(pool, bob.user, talk, lifetime_s=3600)
    await age(pool, talk)
    await retention.move_floors(pool, days=1000, archives=False, limit=9)
    return talk


async def of_a_group_that_bob_has_left(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    group = await new_group(pool, alice, bob)
    await say(pool, group, alice, 2)
    await participants.remove(pool, bob.user, group, bob.user)
    return group


STATES: Final[list[tuple[State, type[Message | Tombstone] | None]]] = [
    (plain, Message),
    (deleted, Tombstone),
    (hidden, Tombstone),
    (silent, Tombstone),
    (below_the_floor, None),
    (from_before_bob_joined, None),
    (below_bobs_own_floor, None),
    (of_a_group_that_bob_has_left, None),
]


async def of_history(pool: Pool, user: bytes, talk: bytes, **bounds: int) -> list[Message | Tombstone]:
    return (await messages.history(pool, user, talk, limit=9, **bounds)).messages  # type: ignore[arg-type]


async def of_page_around(pool: Pool, user: bytes, talk: bytes) -> list[Message | Tombstone]:
    return (await messages.history_around(pool, user, talk, around=2, limit=9)).messages


async def of_list(pool: Pool, user: bytes, talk: bytes) -> list[Message | Tombstone]:
    last = (await conversations.one(pool, user, talk)).last_message
    return [last] if last else []


async def of_sync(pool: Pool, user: bytes, talk: bytes) -> list[Message | Tombstone]:
    """As if the caller knew no floor, of a user whose device has seen nothing."""
    values = {"user": user, "conversations": [talk], "after": [0], "newest": [None], "bases": ["3:3:"]}
    rows = await pool.read(PAGE_MESSAGES, {**values, "limit": 9, "bytes": 2**20})
    return [message_of(*row) for row in rows]


READS: Final[dict[str, Callable[[Pool, bytes, bytes], Awaitable[list[Message | Tombstone]]]]] = {
    "the newest page": of_history,
    "a page before": partial(of_history, before=3),
    "a page after": partial(of_history, after=1),
    "a page around": of_page_around,
    "the list": of_list,
    "sync": of_sync,
}


@pytest.mark.parametrize(("state", "expected"), STATES)
async def test_a_user_reads_the_same_through_everything_that_shows_messages(
    pool: Pool, alice: Credentials, bob: Credentials, state: State, expected: type[Message | Tombstone] | None
) -> None:
    talk = await state(pool, alice, bob)
    for name, read in READS.items():
        found: list[Message | Tombstone] = []
        with suppress(NotAParticipant):
            found = await read(pool, bob.user, talk)
        assert [type(each) for each in found if each.seq == 2] == ([expected] if expected else []), name


@pytest.mark.parametrize(("state", "expected"), STATES)
async def test_a_user_can_ask_for_the_status_of_and_hide_only_messages_they_may_read(
    pool: Pool, alice: Credentials, bob: Credentials, state: State, expected: type[Message | Tombstone] | None
) -> None:
    talk = await state(pool, alice, bob)
    for ask in (marks.message_status, revisions.delete_for_me, revisions.delete_for_everyone):
        error = None
        try:
            await ask(pool, bob.user, talk, 2)
        except StoreError as refused:
            error = type(refused)
        if expected is None:
            assert error in (NotAParticipant, UnknownMessage)
        else:
            assert error == (NotTheSender if ask is revisions.delete_for_everyone else None)


@pytest.mark.parametrize(("state", "expected"), STATES)
async def test_a_message_waits_for_a_user_who_would_read_it(
    pool: Pool, alice: Credentials, bob: Credentials, state: State, expected: type[Message | Tombstone] | None
) -> None:
    """Notices are about no other messages."""
    talk = await state(pool, alice, bob)
    await mark(pool, [[Mark(bob.user, talk, 1, 1)]])
    prospect = await notifiers.notice_context(pool, bob.user, read_after_s=60)
    assert prospect is not None
    assert prospect.is_undelivered == (expected is Message)


@pytest.mark.parametrize(("state", "is_told"), [(state, state in (plain, deleted)) for state, _ in STATES])
async def test_a_node_tells_a_user_of_a_message_and_of_its_changes_alike(
    pool: Pool, alice: Credentials, bob: Credentials, state: State, is_told: bool
) -> None:
    """After pushes were lost. Users who have deleted the message hear only of their own deletion."""
    talk = await state(pool, alice, bob)
    users, told = [alice.user, bob.user], (bob.user,) if is_told else ()
    [missed] = await messages.messages_between(pool, talk, users, after=1, upto=2, limit=9)
    assert [user for user in missed.holders if user == bob.user] == [*told]
    assert missed.hiders == ([bob.user] if state is hidden else [])
    if state is hidden:
        [(tombstone, hiders)] = await revisions.revised_since(pool, users, ago_s=60)
        assert (type(tombstone), hiders) == (Tombstone, [bob.user])
    await pool.fetch("update participants set joined = 'epoch'")
    await pool.fetch("update hidden set at = 'epoch'")
    await pool.fetch(
        "insert into revisions (conversation_id, seq) values (%s, 2) on conflict do nothing", (uuid(talk),)
    )
    expected = await messages.expected_deliveries(pool, users, talk, after=1, upto=2)
    assert [(user, seq) for user, seq, _ in expected] == [(user, 2) for user in told]
    changed = await revisions.revised_since(pool, [bob.user], ago_s=60)
    assert [(message.seq, users) for message, users in changed] == ([(2, [bob.user])] if is_told else [])


async def test_counts_are_told_of_messages_that_their_sender_may_still_read(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """Bob has left and come back: what he wrote before lies below his floor."""
    group = await new_group(pool, alice, bob)
    await say(pool, group, bob)
    await participants.remove(pool, bob.user, group, bob.user)
    await participants.add(pool, alice.user, group, bob.user)
    await say(pool, group, bob)
    counts = await marks.receipt_counts(pool, group, after=0, upto=9, limit=9)
    assert [seq for seq, *_ in counts[bob.user]] == [2]


async def test_the_rule_costs_no_call(database_url: str, alice: Credentials, bob: Credentials) -> None:
    """Postgres inlines it: else each row would cost some microseconds more, and no condition would reach an index."""
    with closing(Pool(database_url, 1)) as single:
        talk = await plain(single, alice, bob)
        await revisions.edit(single, alice.user, talk, 2, 0, "text", b"x", None, None)
        await revisions.delete_for_me(single, bob.user, talk, 1)
        await single.fetch("set track_functions = 'all'")
        for read in READS.values():
            assert await read(single, bob.user, talk)
        await notifiers.notice_context(single, bob.user, read_after_s=60)
        await marks.message_status(single, bob.user, talk, 2)
        await marks.receipt_counts(single, talk, after=0, upto=2, limit=9)
        await single.fetch("update participants set joined = 'epoch'")
        assert await messages.expected_deliveries(single, [bob.user], talk, after=0, upto=2)
        found = await messages.messages_between(single, talk, [bob.user], after=0, upto=2, limit=9)
        assert [(each.holders, each.hiders) for each in found] == [([], [bob.user]), ([bob.user], [])]
        assert len(await revisions.revised_since(single, [bob.user], ago_s=60)) == 2
        await single.read(RECEIPT_COUNTS, {"conversations": [talk], "user": alice.user, "counted": 50})
        await single.fetch("select pg_stat_force_next_flush()")
        await single.fetch("select 1")
        called = {name for (name,) in await single.fetch("select funcname::text from pg_stat_user_functions")}
    assert {"unseen_messages", "waiting_of"} <= called
    assert called.isdisjoint({"readable_messages", "holders_of", "hiders_of", "floor_of"})

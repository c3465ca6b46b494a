"""Messages: their order, their bytes, marks and unread counts, and every kind of trouble with them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from protocol.limits import MAX_CONTENT_BYTES
from store.postgres.pool import Pool
from tests.store.imports.old_world import OldWorld, at, imported, named, reasons


def rows(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), parameters or None).fetchall()


def pair(old: OldWorld) -> None:
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("direct", "ann", "ben")


SEQS = "select id, seq from messages order by conversation_id, seq"
MARKS = (
    "select p.user_id, p.delivered_seq, p.read_seq, unread_count(c, p) from participants p"
    " join conversations c on c.id = p.conversation_id"
)


async def test_messages_are_numbered_by_time_then_id(old: OldWorld, database_url: str) -> None:
    pair(old)
    same = sorted(["x1", "x2", "x3"], key=named)
    for name in ("x3", "x1", "x2"):
        old.message(name, "direct", "ann", 5)
    old.message("first", "direct", "ben", 1)
    old.message("last", "direct", "ben", 9)
    made = await imported(old, database_url)
    assert reasons(made) == {}
    order = ["first", *same, "last"]
    assert rows(database_url, SEQS) == [(named(name), n) for n, name in enumerate(order, start=1)]
    assert rows(database_url, "select last_seq, active_at from conversations") == [(5, at(9))]
    assert rows(database_url, "select created from messages order by seq") == [(at(m),) for m in (1, 5, 5, 5, 9)]


@pytest.mark.parametrize(
    "text", ["\U0001f600 emoji", "\\x00 \\u0000 \\N \\. \\", "tab\tline\nend\r", "", "a" * MAX_CONTENT_BYTES, "\\."]
)
async def test_bytes_are_those_of_the_text(old: OldWorld, database_url: str, text: str) -> None:
    """Nothing is decoded, and nothing is taken for an escape."""
    pair(old)
    old.message("m", "direct", "ann", 1, encrypted_content=text, nonce=text[:20], ephemeral_public_key=text[:40])
    made = await imported(old, database_url)
    assert reasons(made) == {}
    found = rows(database_url, "select content, nonce, ephemeral_public_key, content_type, temp_id from messages")
    assert found == [(text.encode(), text[:20].encode(), text[:40].encode(), "text", None)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"encrypted_content": "a" * (MAX_CONTENT_BYTES + 1)}, "content_too_long"),
        ({"encrypted_content": "ä" * (MAX_CONTENT_BYTES // 2 + 1)}, "content_too_long"),
        ({"encrypted_content": None}, "content_missing"),
        ({"content_type": "x" * 65}, "content_type_too_long"),
        ({"nonce": "x" * 65}, "nonce_too_long"),
        ({"ephemeral_public_key": "x" * 2049}, "key_too_long"),
    ],
)
async def test_a_message_beyond_the_limits_is_a_tombstone_at_its_place(
    old: OldWorld, database_url: str, values: dict[str, Any], reason: str
) -> None:
    old.relax()
    pair(old)
    old.message("before", "direct", "ann", 1)
    old.message("m", "direct", "ann", 2, **values)
    old.message("after", "direct", "ann", 3)
    made = await imported(old, database_url)
    assert reasons(made) == {("messages", reason): 1}
    assert made.notes[0].examples[0].id == str(named("m"))
    found = rows(database_url, "select id, content, nonce, ephemeral_public_key, deleted from messages where seq = 2")
    assert found == [(named("m"), b"", None, None, at(2))]
    # It does not count as unread.
    assert (named("ben"), 0, 0, 2) in rows(database_url, MARKS)


@pytest.mark.parametrize(
    "values", [{"content_type": None}, {"content_type": ""}, {"nonce": None}, {"ephemeral_public_key": None}]
)
async def test_a_message_may_lack_a_type_a_nonce_and_a_key(
    old: OldWorld, database_url: str, values: dict[str, Any]
) -> None:
    old.relax()
    pair(old)
    old.message("m", "direct", "ann", 1, **values)
    assert reasons(await imported(old, database_url)) == {}
    [(content_type, nonce, key)] = rows(database_url, "select content_type, nonce, ephemeral_public_key from messages")
    assert content_type == "text"
    assert (nonce is None) == (values.get("nonce", "") is None)
    assert (key is None) == (values.get("ephemeral_public_key", "") is None)


async def test_messages_without_a_place_a_sender_or_a_time(old: OldWorld, database_url: str) -> None:
    old.relax()
    pair(old)
    old.message("orphan", "no conversation", "ann", 1)
    old.message("nowhere", None, "ann", 1)
    old.message("of a stranger", "direct", "stranger", 2)
    old.message("of nobody", "direct", None, 3)
    old.message("without a time", "direct", "ann", None)
    old.message("too early", "direct", "ann", 1)
    old.run("update messages set created_at = '-infinity' where id = %s", named("too early"))
    old.message("too late", "direct", "ann", 1)
    old.run("update messages set created_at = 'infinity' where id = %s", named("too late"))
    made = await imported(old, database_url)
    assert reasons(made) == {
        ("messages", "conversation_unknown"): 2,
        ("messages", "sender_unknown"): 2,
        ("messages", "created_bounded"): 3,
    }
    found = [id_ for id_, _ in rows(database_url, SEQS)]
    assert set(found[:2]) == {named("without a time"), named("too early")}
    assert found[2:] == [named("of a stranger"), named("of nobody"), named("too late")]
    deleted = rows(database_url, "select id from users where deleted is not null")
    assert {id_ for (id_,) in deleted} == {named("stranger"), UUID(int=0)}
    # Others see that the senders have left.
    assert len(rows(database_url, "select user_id from departures")) == 2


async def test_marks_and_unread_counts(old: OldWorld, database_url: str) -> None:
    """The furthest of last_read_at, read receipts and own messages; tombstones do not count."""
    for name in ("ann", "ben", "carl", "dora", "emil"):
        old.user(name)
    old.conversation("group", "ann", "ben", "carl", "dora", "emil")
    for n in range(1, 11):
        old.message(f"m{n}", "group", "ann", n, deleted_at=at(20) if n == 9 else None)
    old.run("update conversation_participants set last_read_at = %s where user_id = %s", at(4), named("ben"))
    old.receipt("m6", "carl", "read")
    old.receipt("m8", "carl", "delivered")
    old.receipt("m2", "ben", "read")
    old.message("of dora", "group", "dora", 5.5)
    old.relax()
    old.receipt("m1", "stranger", "read")
    old.receipt("m3", "emil", "sent")
    made = await imported(old, database_url)
    assert reasons(made) == {("receipts", "not_of_participant"): 1}
    # seq 6 is dora's message, m9 (seq 10) is a tombstone, and there are 11.
    assert set(rows(database_url, MARKS)) == {
        (named("ann"), 11, 11, 0),
        (named("ben"), 4, 4, 6),
        (named("carl"), 9, 7, 3),
        (named("dora"), 6, 6, 4),
        (named("emil"), 0, 0, 10),
    }


async def test_marks_move_and_never_go_back(old: OldWorld, database_url: str) -> None:
    pair(old)
    for n in range(1, 5):
        old.message(f"m{n}", "direct", "ann", n)
    for minutes, expected in ((2, 2), (3, 3), (1, 3)):
        old.run("update conversation_participants set last_read_at = %s where user_id = %s", at(minutes), named("ben"))
        await imported(old, database_url)
        assert (named("ben"), expected, expected, 4 - expected) in rows(database_url, MARKS)


async def test_new_messages_come_after_those_that_are_here(old: OldWorld, database_url: str, pool: Pool) -> None:
    pair(old)
    old.message("m1", "direct", "ann", 10)
    await imported(old, database_url)
    # One comes late at the source, and one was written here.
    old.message("late", "direct", "ben", 5)
    old.message("m2", "direct", "ben", 11)
    made = await imported(old, database_url)
    assert rows(database_url, SEQS) == [(named("m1"), 1), (named("late"), 2), (named("m2"), 3)]
    assert rows(database_url, "select created from messages order by seq") == [(at(10),), (at(10),), (at(11),)]
    assert reasons(made) == {("messages", "created_raised"): 1}


async def test_deletions_and_other_contents_are_followed(old: OldWorld, database_url: str, pool: Pool) -> None:
    pair(old)
    for n in range(1, 6):
        old.message(f"m{n}", "direct", "ann", n)
    await imported(old, database_url)
    old.run("update messages set deleted_at = now() where id = %s", named("m1"))
    old.run("update messages set encrypted_content = 'another', nonce = 'n' where id = %s", named("m2"))
    old.run("delete from messages where id = %s", named("m3"))
    old.run("update messages set created_at = %s where id = %s", at(30), named("m4"))
    old.run("update messages set status = 'read' where id = %s", named("m5"))
    made = await imported(old, database_url)
    found = rows(database_url, "select seq, content, nonce, revision, deleted is not null from messages order by seq")
    assert found[0] == (1, b"", None, 0, True)
    assert found[1] == (2, b"another", b"n", 1, False)
    assert found[2:] == [(n, f"content of m{n}".encode(), b"bm9uY2U=", 0, False) for n in (3, 4, 5)]
    assert reasons(made) == {("messages", "gone_at_source"): 1, ("messages", "change_not_followed"): 1}
    assert (named("ben"), 0, 0, 4) in rows(database_url, MARKS)
    # What was edited or deleted here stays.
    ann, direct = named("ann"), named("direct")
    await pool.fetch("update messages set content = 'mine', revision = 1 where seq = 5")
    await pool.fetch("select note_revision(%s, 5, 'digest', now())", (direct,))
    await pool.fetch("select delete_message(%s, %s, 4)", (ann, direct))
    old.run("update messages set encrypted_content = 'theirs' where id in (%s, %s)", named("m4"), named("m5"))
    made = await imported(old, database_url)
    assert rows(database_url, "select content from messages where seq > 3 order by seq") == [(b"",), (b"mine",)]
    assert reasons(made)["messages", "changed_on_both_sides"] == 1

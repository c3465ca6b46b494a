"""Conversations, participants, roles, contacts and attachments, and every kind of trouble with them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from store.objects.interface import is_key
from store.postgres.pool import Pool
from tests.store.imports.old_world import OldWorld, at, imported, named, reasons


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


PARTICIPANTS = (
    "select user_id, role, since_seq, asked_by from participants where conversation_id = '{}' order by joined"
)


async def test_conversations_keep_ids_names_times_and_participants(old: OldWorld, database_url: str) -> None:
    for name in ("ann", "ben", "carl"):
        old.user(name)
    old.conversation("direct", "ann", "ben", created_at=at(1))
    old.conversation("group", "carl", "ann", "ben", name="The  Group")
    made = await imported(old, database_url)
    assert reasons(made) == {}
    low, high = sorted([named("ann"), named("ben")])
    found = rows(
        database_url, "select id, kind, name, created, direct_low, direct_high, participant_count from conversations"
    )
    assert sorted(found, key=str) == sorted(
        [
            (named("direct"), "direct", None, at(1), low, high, 2),
            (named("group"), "group", "The Group", at(0), None, None, 3),
        ],
        key=str,
    )
    # The first participant of a group becomes its administrator: the source has no roles. Nobody is asked again.
    assert rows(database_url, PARTICIPANTS.format(named("group"))) == [
        (named("carl"), "admin", 0, None),
        (named("ann"), "member", 0, None),
        (named("ben"), "member", 0, None),
    ]
    assert {role for _, role, _, _ in rows(database_url, PARTICIPANTS.format(named("direct")))} == {"member"}


async def test_roles_are_taken_where_the_source_has_them(old: OldWorld, database_url: str) -> None:
    old.run("alter table conversation_participants add role text")
    for name in ("ann", "ben", "carl"):
        old.user(name)
    old.conversation("group", "ann", "ben", "carl")
    old.run("update conversation_participants set role = 'owner' where user_id = %s", named("carl"))
    await imported(old, database_url)
    found = {user: role for user, role, _, _ in rows(database_url, PARTICIPANTS.format(named("group")))}
    assert found == {named("ann"): "member", named("ben"): "member", named("carl"): "admin"}


async def test_two_direct_conversations_of_one_pair_become_one(old: OldWorld, database_url: str) -> None:
    """The messages of both are in the older one, by time. The mark lies before the first message that is unread in one
    of them."""
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("older", "ann", "ben", created_at=at(1))
    old.conversation("newer", "ben", "ann", created_at=at(2))
    for n, (conversation, sender) in enumerate(
        [("older", "ann"), ("newer", "ann"), ("older", "ann"), ("newer", "ben"), ("older", "ann"), ("newer", "ann")]
    ):
        old.message(f"m{n}", conversation, sender, 10 + n)
    # ben has written m3, and so has read up to it; in the newer one ben has read all, in the older one up to m2.
    old.run(
        "update conversation_participants set last_read_at = case conversation_id when %s then %s else %s end"
        " where user_id = %s",
        *(named("older"), at(12), at(15), named("ben")),
    )
    made = await imported(old, database_url)
    assert reasons(made) == {("conversations", "direct_twice"): 1}
    assert made.notes[0].examples[0].detail == f"{named('newer')} -> {named('older')}"
    assert rows(database_url, "select conversation_id, id from messages order by seq") == [
        (named("older"), named(f"m{n}")) for n in range(6)
    ]
    found = rows(database_url, f"select read_seq from participants where user_id = '{named('ben')}'")
    assert found == [(4,)]


async def test_a_pair_that_has_a_direct_conversation_here_keeps_it(
    old: OldWorld, database_url: str, pool: Pool
) -> None:
    for name in ("ann", "ben"):
        old.user(name)
    await imported(old, database_url)
    low, high = sorted([named("ann"), named("ben")])
    here = named("of this service")
    await pool.fetch(
        "insert into conversations (id, kind, direct_low, direct_high) values (%s, 'direct', %s, %s)", (here, low, high)
    )
    await pool.fetch(
        "insert into participants (conversation_id, user_id) values (%(c)s, %(l)s), (%(c)s, %(h)s)",
        {"c": here, "l": low, "h": high},
    )
    old.conversation("direct", "ann", "ben")
    old.message("m", "direct", "ann", 1)
    made = await imported(old, database_url)
    assert rows(database_url, "select conversation_id, id from messages") == [(here, named("m"))]
    assert reasons(made) == {("conversations", "direct_twice"): 1}


async def test_conversations_that_are_not_as_they_should_be(old: OldWorld, database_url: str) -> None:
    old.relax()
    for name in ("ann", "ben", "carl"):
        old.user(name)
    old.user("gone", login={"deleted_at": at(1)})
    old.conversation("alone", "ann", type="direct")
    old.conversation("three", "ann", "ben", "carl", type="direct")
    old.conversation("nobody", type="group")
    old.conversation("channel", "ann", "ben", type="channel", name="News")
    old.conversation("nameless", "ann", "ben", type="group", name=None)
    old.conversation("misnamed", "ann", "ben", type="group", name="a\u2028b")
    old.conversation("closed", "ann", "gone")
    old.conversation("left", "ann", "ben", "gone")
    old.participant("alone", "stranger")
    old.participant("no conversation", "ann")
    old.participant("three", "ann")
    old.message("m", "nobody", "ann", 1)
    made = await imported(old, database_url)
    found = {
        id_: (kind, name, closed)
        for id_, kind, name, closed in rows(database_url, "select id, kind, name, is_closed from conversations")
    }
    assert found == {
        named("alone"): ("group", "alone", False),
        named("three"): ("group", "three", False),
        named("channel"): ("group", "News", False),
        named("nameless"): ("group", "Group", False),
        named("misnamed"): ("group", "Group", False),
        named("closed"): ("direct", None, True),
        named("left"): ("group", "left", False),
    }
    assert rows(database_url, "select conversation_id, user_id from departures") == [(named("left"), named("gone"))]
    assert [user for user, *_ in rows(database_url, PARTICIPANTS.format(named("closed")))] != []
    assert reasons(made) == {
        ("users", "deleted"): 1,
        ("conversations", "no_participants"): 1,
        ("conversations", "direct_not_of_two"): 2,
        ("conversations", "type_unknown"): 1,
        ("conversations", "title_missing"): 1,
        ("conversations", "title_not_allowed"): 1,
        ("participants", "user_unknown"): 1,
        ("participants", "conversation_unknown"): 1,
        ("participants", "participant_twice"): 1,
        ("messages", "conversation_not_taken"): 1,
    }


async def test_participants_who_come_and_go_at_the_source(old: OldWorld, database_url: str, pool: Pool) -> None:
    for name in ("ann", "ben", "carl", "dora"):
        old.user(name)
    old.conversation("group", "ann", "ben", "carl")
    old.message("before", "group", "ann", 1)
    await imported(old, database_url)
    old.run("delete from conversation_participants where user_id in (%s, %s)", named("ann"), named("carl"))
    old.participant("group", "dora", joined_at=at(2))
    old.message("after", "group", "ben", 3)
    await imported(old, database_url)
    # dora joined after the first message, which is no news for her. ann was the administrator.
    assert rows(database_url, PARTICIPANTS.format(named("group"))) == [
        (named("ben"), "admin", 0, None),
        (named("dora"), "member", 1, None),
    ]
    assert {user for (user,) in rows(database_url, "select user_id from departures")} == {named("ann"), named("carl")}
    # A participant who leaves here does not come back.
    await pool.fetch("select remove_participant(%(u)s, %(c)s, %(u)s)", {"u": named("ben"), "c": named("group")})
    await imported(old, database_url)
    assert [user for user, *_ in rows(database_url, PARTICIPANTS.format(named("group")))] == [named("dora")]


async def test_contacts(old: OldWorld, database_url: str, pool: Pool) -> None:
    old.relax()
    for name in ("ann", "ben"):
        old.user(name)
    old.user("gone", login={"deleted_at": at(1)})
    for user, contact in (("ann", "ben"), ("ben", "ann"), ("ann", "ann"), ("ann", "gone"), ("ann", "nobody")):
        old.add("contacts", user_id=user, contact_user_id=contact)
    made = await imported(old, database_url)
    assert set(rows(database_url, "select user_id, contact_id from contacts")) == {
        (named("ann"), named("ben")),
        (named("ben"), named("ann")),
    }
    assert reasons(made) == {
        ("users", "deleted"): 1,
        ("contacts", "user_unknown"): 2,
        ("contacts", "contact_of_oneself"): 1,
    }
    # A contact that was removed here does not come back.
    await pool.fetch("delete from contacts where user_id = %s", (named("ann"),))
    await imported(old, database_url)
    assert rows(database_url, "select user_id from contacts") == [(named("ben"),)]


KEYS = [
    "k/1",
    "a-b_c.jpg",
    "attachments/ab/cd",
    "",
    "/k",
    "k/",
    "k//1",
    "../x",
    ".x",
    "k/.x",
    "k ä",
    "x" * 200,
    "x" * 201,
    "/".join(["y" * 100] * 5),
    "/".join(["y" * 100] * 6),
    "k\n",
]


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_is_one_of_the_object_store(old: OldWorld, database_url: str, key: str) -> None:
    await imported(old, database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select imported.is_key(%s)", (key,)).fetchone() == (is_key(key),)


async def test_attachments_keep_ids_and_objects(old: OldWorld, database_url: str) -> None:
    old.relax()
    for name in ("ann", "ben"):
        old.user(name)
    old.conversation("direct", "ann", "ben")
    old.message("m", "direct", "ben", 1)
    old.message("deleted", "direct", "ben", 2, deleted_at=at(3))
    image = {"message_id": "m", "file_name": "x.jpg", "file_size": 1000, "mime_type": "image/jpeg"}
    old.add("attachments", id="a1", **image, r2_key="k/1", thumbnail_r2_key="t/1")
    old.add("attachments", id="a2", message_id="m", r2_key="k/2")
    old.add("attachments", id="same object", **image, r2_key="k/2")
    old.add("attachments", id="no key", **image, r2_key="https://cdn.example/k")
    old.add("attachments", id="no message", **image | {"message_id": "unknown"}, r2_key="k/3")
    old.add("attachments", id="of deleted", **image | {"message_id": "deleted"}, r2_key="k/4")
    old.add("attachments", id="bad thumbnail", **image, r2_key="k/5", thumbnail_r2_key="k/1")
    made = await imported(old, database_url)
    found = rows(
        database_url,
        "select id, user_id, object_key, size_bytes, media_type, digest, conversation_id, seq, completed, thumbnail_of,"
        " is_sized"
        " from attachments order by object_key",
    )
    keys = {key: (id_, *rest) for id_, _, key, *rest in found}
    place = (named("direct"), 1, at(1))
    first, second = sorted([named("a2"), named("same object")])
    assert keys["k/1"] == (named("a1"), 1000, "image/jpeg", None, *place, None, False)
    assert keys["t/1"][1:] == (1, "application/octet-stream", None, *place, named("a1"), False)
    assert keys["k/2"][0] == first
    assert keys["k/5"][0] == named("bad thumbnail")
    assert len(keys) == 4
    bytes_of = {key: rest[0] for key, (_, *rest) in keys.items()}
    usage = rows(database_url, "select user_id, stored_bytes from attachment_usage")
    assert usage == [(named("ben"), sum(bytes_of.values()))]
    assert rows(database_url, "select stored_bytes from attachment_total") == [(usage[0][1],)]
    figures = dict(rows(database_url, "select metric, value from analytics where metric like 'attachment%'"))
    assert figures == {"attachments_uploaded": 4, "attachment_bytes_uploaded": usage[0][1]}
    [(ids,)] = rows(database_url, "select attachments from messages where seq = 1")
    assert ids == sorted([named("a1"), first, named("bad thumbnail")])
    expected = {
        ("attachments", "object_twice"): 1,
        ("attachments", "key_not_allowed"): 1,
        ("attachments", "message_unknown"): 1,
        ("attachments", "message_deleted"): 1,
        ("attachments", "thumbnail_not_taken"): 1,
    }
    assert reasons(made) == expected | ({("attachments", "size_unknown"): 1} if first == named("a2") else {})
    # An attachment that comes after its message is shown, and devices are told of the message again.
    old.add("attachments", id="late", **image, r2_key="k/6")
    await imported(old, database_url)
    [(ids,)] = rows(database_url, "select attachments from messages where seq = 1")
    assert ids[-1] == named("late")
    assert rows(database_url, "select seq from revisions") == [(1,)]
    assert second not in ids

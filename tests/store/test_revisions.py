"""Editing and deleting stored messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from protocol.frames import Message, Tombstone
from store import conversations, messages
from store.errors import MessageDeleted, NotAParticipant, NotTheSender, Refused, RevisionConflict, UnknownMessage
from store.messages import send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.revisions import MessageChange, delete_for_everyone, delete_for_me, edit, revised_since
from tests.people import new_group, new_user
from tests.store.store_world import a_message


class RevisedGroup:
    """A group of alice and bob in which alice has written three times; carol is not in it."""

    def __init__(self, pool: Pool, people: dict[str, Credentials], conversation: bytes) -> None:
        self.pool = pool
        self.people = people
        self.conversation = conversation

    def user(self, name: str) -> bytes:
        return self.people[name].user

    async def edit(self, name: str, seq: int, revision: int, content: bytes) -> tuple[MessageChange, int, int]:
        return await edit(self.pool, self.user(name), self.conversation, seq, revision, "text", content, b"n", None)

    async def delete(self, name: str, seq: int, *, for_everyone: bool) -> MessageChange:
        delete = delete_for_everyone if for_everyone else delete_for_me
        return await delete(self.pool, self.user(name), self.conversation, seq)

    async def read(self, name: str) -> list[Message | Tombstone]:
        page = await messages.history(self.pool, self.user(name), self.conversation, limit=10, after=0)
        return page.messages


@pytest.fixture
async def talk(pool: Pool) -> RevisedGroup:
    people = {name: await new_user(pool, name) for name in ("alice", "bob", "carol")}
    group = await new_group(pool, people["alice"], people["bob"])
    await send(pool, ParticipantsCache(), [a_message(group, people["alice"].user, b"%d" % n) for n in range(3)])
    return RevisedGroup(pool, people, group)


async def test_everybody_reads_the_last_edit_wherever_messages_are_read(talk: RevisedGroup) -> None:
    [_, before, _] = await talk.read("bob")
    change, revision, first_edited = await talk.edit("alice", 2, 0, b"one")
    assert (revision, change.is_new) == (1, True)
    change, revision, edited = await talk.edit("alice", 2, 1, b"two")
    assert (revision, sorted(change.participants)) == (2, sorted([talk.user("alice"), talk.user("bob")]))
    assert first_edited < edited
    [_, after, _] = await talk.read("bob")
    assert isinstance(change.message, Message)
    assert change.message.temp_id is not None
    assert (
        after
        == replace(change.message, temp_id=None)
        == Message(
            *(talk.conversation, 2, before.message, before.created, before.sender, "text", b"two", b"n", None),
            revision=2,
            edited=edited,
        )
    )
    [missed] = await messages.messages_between(talk.pool, talk.conversation, [], after=1, upto=2, limit=9)
    assert missed.message == change.message
    await talk.edit("alice", 3, 0, b"last")
    listed = await conversations.one(talk.pool, talk.user("bob"), talk.conversation)
    assert listed.last_message == (await talk.read("bob"))[-1]
    assert listed.last_message != before
    assert isinstance(listed.last_message, Message)
    assert listed.last_message.content == b"last"


async def test_an_edit_done_again_is_answered_alike_and_another_one_conflicts(talk: RevisedGroup) -> None:
    first, revision, edited = await talk.edit("alice", 1, 0, b"x")
    again, *others = await talk.edit("alice", 1, 0, b"x")
    assert others == [revision, edited]
    assert (again.message, again.is_new) == (first.message, False)
    for known in (0, 2, 5):
        with pytest.raises(RevisionConflict):
            await talk.edit("alice", 1, known, b"y")


async def test_one_of_many_concurrent_edits_succeeds(talk: RevisedGroup) -> None:
    outcomes: list[str] = []

    async def try_edit(content: bytes) -> None:
        try:
            await talk.edit("alice", 1, 0, content)
        except RevisionConflict:
            outcomes.append("conflict")
        else:
            outcomes.append("done")

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(try_edit, b"%d" % n)
    assert sorted(outcomes) == ["conflict"] * 7 + ["done"]


async def test_message_deleted_for_everyone_is_erased_and_stays_a_tombstone(talk: RevisedGroup) -> None:
    change = await talk.delete("alice", 3, for_everyone=True)
    assert isinstance(change.message, Tombstone)
    assert sorted(change.participants) == sorted([talk.user("alice"), talk.user("bob")])
    again = await talk.delete("alice", 3, for_everyone=True)
    assert (again.message, again.is_new) == (change.message, False)
    for name in ("alice", "bob"):
        assert (await talk.read(name))[2] == change.message
        assert (await conversations.one(talk.pool, talk.user(name), talk.conversation)).last_message == change.message
    [missed] = await messages.messages_between(talk.pool, talk.conversation, [], after=2, upto=3, limit=9)
    assert missed.message == change.message
    [row] = await talk.pool.fetch(
        "select content, nonce, ephemeral_public_key from messages where conversation_id = %s and seq = 3",
        (uuid(talk.conversation),),
    )
    assert row == (b"", None, None)
    with pytest.raises(MessageDeleted):
        await talk.edit("alice", 3, 0, b"x")


async def test_others_keep_a_message_that_a_user_deletes_for_themselves(talk: RevisedGroup) -> None:
    whole = await talk.read("alice")
    change = await talk.delete("bob", 2, for_everyone=False)
    assert (change.participants, change.is_new) == ([talk.user("bob")], True)
    assert not (await talk.delete("bob", 2, for_everyone=False)).is_new
    assert await talk.read("alice") == whole
    assert (await talk.read("bob"))[1] == change.message
    assert isinstance(change.message, Tombstone)
    await talk.delete("bob", 3, for_everyone=False)
    assert isinstance((await conversations.one(talk.pool, talk.user("bob"), talk.conversation)).last_message, Tombstone)
    edited, *_ = await talk.edit("alice", 2, 0, b"x")
    assert edited.participants == [talk.user("alice")], "a user that deleted the message is not told of edits"
    assert isinstance((await talk.read("bob"))[1], Tombstone)
    await talk.delete("alice", 1, for_everyone=False)
    with pytest.raises(MessageDeleted):
        await talk.edit("alice", 1, 0, b"x")
    await talk.delete("alice", 1, for_everyone=True)
    assert isinstance((await talk.read("bob"))[0], Tombstone)


def actions(talk: RevisedGroup, name: str, seq: int) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: talk.edit(name, seq, 0, b"x"),
        lambda: talk.delete(name, seq, for_everyone=True),
        lambda: talk.delete(name, seq, for_everyone=False),
    ]


@pytest.mark.parametrize(
    ("name", "seq", "refused"),
    [
        ("carol", 1, [NotAParticipant] * 3),
        ("alice", 0, [UnknownMessage] * 3),
        ("alice", 4, [UnknownMessage] * 3),
        ("alice", 2**63 - 1, [UnknownMessage] * 3),
        ("bob", 1, [NotTheSender] * 2),
    ],
)
async def test_refused_edit_or_deletion_changes_nothing(
    talk: RevisedGroup, name: str, seq: int, refused: list[type[Refused]]
) -> None:
    before = await talk.read("alice")
    for action, error in zip(actions(talk, name, seq), refused, strict=False):
        with pytest.raises(error):
            await action()
    assert await talk.read("alice") == before


async def test_earlier_messages_are_unknown_to_a_newcomer(talk: RevisedGroup) -> None:
    await talk.pool.fetch(
        "update participants set joined_seq = 2, since_seq = 2 where conversation_id = %s and user_id = %s",
        (uuid(talk.conversation), uuid(talk.user("bob"))),
    )
    for action in actions(talk, "bob", 2):
        with pytest.raises(UnknownMessage):
            await action()
    change, *_ = await talk.edit("alice", 2, 0, b"x")
    assert change.participants == [talk.user("alice")]


async def test_a_node_that_was_away_finds_changed_messages_and_the_users_they_are_for(talk: RevisedGroup) -> None:
    everybody = [talk.user(name) for name in ("alice", "bob", "carol")]
    assert await revised_since(talk.pool, everybody, ago_s=60) == []
    edited, *_ = await talk.edit("alice", 1, 0, b"x")
    deleted = await talk.delete("alice", 2, for_everyone=True)
    hidden = await talk.delete("bob", 3, for_everyone=False)
    await talk.delete("alice", 1, for_everyone=False)
    own = Tombstone(talk.conversation, 1, edited.message.message, edited.message.created, talk.user("alice"))
    found = await revised_since(talk.pool, everybody, ago_s=60)
    both = sorted([talk.user("alice"), talk.user("bob")])
    expected = [
        (edited.message, [talk.user("bob")]),
        (deleted.message, both),
        (hidden.message, [talk.user("bob")]),
        (own, [talk.user("alice")]),
    ]
    assert sorted(((message, sorted(users)) for message, users in found), key=repr) == sorted(expected, key=repr)
    assert await revised_since(talk.pool, everybody, ago_s=0) == []
    assert [message for message, _ in await revised_since(talk.pool, [talk.user("carol")], ago_s=60)] == []


async def test_an_edit_is_known_again_after_others_have_come_on_top_of_it(talk: RevisedGroup) -> None:
    done = [await talk.edit("alice", 1, n, b"%d" % n) for n in range(5)]
    for n, (_, revision, edited) in enumerate(done):
        again, *answer = await talk.edit("alice", 1, n, b"%d" % n)
        assert (again.is_new, answer) == (False, [revision, edited])
    [last, *_] = await talk.read("bob")
    assert isinstance(last, Message)
    assert (last.content, last.revision, last.edited) == (b"4", 5, done[4][2]), "a repeat changes nothing"
    for revision, content in ((0, b"1"), (1, b"0"), (3, b"4"), (4, b"x"), (6, b"x"), (2**31 - 1, b"x")):
        with pytest.raises(RevisionConflict):
            await talk.edit("alice", 1, revision, content)


async def test_the_last_sixteen_edits_are_known_again(talk: RevisedGroup) -> None:
    done = [await talk.edit("alice", 1, n, b"%d" % n) for n in range(20)]
    for n, (_, *answer) in enumerate(done):
        if n < 4:
            with pytest.raises(RevisionConflict):
                await talk.edit("alice", 1, n, b"%d" % n)
        else:
            assert list((await talk.edit("alice", 1, n, b"%d" % n))[1:]) == answer
    [(digests, edited)] = await talk.pool.fetch(
        "select cardinality(digests)::bigint, cardinality(edited)::bigint from revisions"
    )
    assert (digests, edited) == (16, 16)


async def test_an_edit_is_known_again_by_all_of_its_content(talk: RevisedGroup) -> None:
    """An edit that differs in type, content, nonce or key, or leaves out a field that was empty, is a new edit."""
    parts: list[tuple[str, bytes, bytes | None, bytes | None]] = [
        ("t", b"c", b"n", b"k"),
        ("tc", b"", b"n", b"k"),
        ("t", b"cn", b"", b"k"),
        ("t", b"c", b"nk", b""),
        ("t", b"c", b"nk", None),
        ("t", b"c", b"", b"nk"),
        ("t", b"c", None, b"nk"),
        ("t", b"c", None, None),
    ]
    alice = talk.user("alice")
    for one in parts:
        [current, *_] = await talk.read("bob")
        assert isinstance(current, Message)
        revision = current.revision or 0
        await edit(talk.pool, alice, talk.conversation, 1, revision, *one)
        await edit(talk.pool, alice, talk.conversation, 1, revision + 1, "t", b"on top", None, None)
        for other in parts:
            if other == one:
                assert not (await edit(talk.pool, alice, talk.conversation, 1, revision, *other))[0].is_new
            else:
                with pytest.raises(RevisionConflict):
                    await edit(talk.pool, alice, talk.conversation, 1, revision, *other)


async def test_nothing_of_the_edits_of_a_deleted_message_stays(talk: RevisedGroup) -> None:
    for n in range(2):
        await talk.edit("alice", 1, n, b"%d" % n)
    await talk.delete("alice", 1, for_everyone=True)
    assert await talk.pool.fetch("select digests, edited from revisions") == [([], [])]
    with pytest.raises(MessageDeleted):
        await talk.edit("alice", 1, 0, b"0")


async def test_an_edit_that_is_so_old_that_it_is_forgotten_conflicts(talk: RevisedGroup) -> None:
    """Later edits are recognised: the newest edit is always the last of the array."""
    await talk.edit("alice", 1, 0, b"0")
    await talk.edit("alice", 1, 1, b"1")
    await talk.pool.fetch("delete from revisions returning 1")
    with pytest.raises(RevisionConflict):
        await talk.edit("alice", 1, 0, b"0")
    assert not (await talk.edit("alice", 1, 1, b"1"))[0].is_new
    for n in (2, 3):
        await talk.edit("alice", 1, n, b"%d" % n)
    assert not (await talk.edit("alice", 1, 2, b"2"))[0].is_new
    with pytest.raises(RevisionConflict):
        await talk.edit("alice", 1, 1, b"1")

"""Editing, deleting, reading, typing and presence over the socket, each with its effects on other clients."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import uuid4

import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from protocol import limits
from protocol.frames import (
    Abort,
    Complete,
    Conversation,
    Conversations,
    Delete,
    Done,
    Download,
    Edit,
    Error,
    History,
    List,
    MarkRead,
    Message,
    Messages,
    OwnSettings,
    Parts,
    Presence,
    Push,
    Reply,
    Request,
    Revised,
    Send,
    Sent,
    SetTyping,
    Sync,
    Synced,
    Tombstone,
    Typing,
    Upload,
    Watch,
)
from server.cluster import presence
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.server.node_world import RawClient, TestNode, open_node
from tests.uploads import new_upload
from tests.waiting import let_pass, wait_until

_T = TypeVar("_T")


class ConnectedPeople:
    """Alice with two devices and Bob with one, in one conversation; Carol is not a participant."""

    def __init__(self, node: TestNode, people: dict[str, Credentials], conversation: bytes) -> None:
        self.node = node
        self.people = people
        self.conversation = conversation
        self.clients: dict[str, RawClient] = {}

    async def ask(self, name: str, frame: Request) -> list[Reply | Push]:
        """Send a request; returns all frames until its reply, the reply last."""
        return await self.clients[name].ask(frame)

    async def reply(self, name: str, frame: Request, type_: type[_T]) -> _T:
        """Send a request; returns only the reply."""
        reply = (await self.ask(name, frame))[-1]
        assert isinstance(reply, type_), reply
        return reply

    async def send(
        self, name: str, content: bytes, *, seen_by: tuple[str, ...] = (), temp_id: bytes | None = None
    ) -> Sent:
        temp_id = temp_id or uuid4().bytes
        frame = Send(1, self.conversation, "text", content, None, None, temp_id)
        sent = await self.reply(name, frame, Sent)
        for other in seen_by:
            assert [push.content for push in await self.clients[other].read(1)] == [content]  # type: ignore[union-attr]
        return sent

    async def pushed(self, name: str, type_: type[_T]) -> _T:
        [push] = await self.clients[name].read(1)
        assert isinstance(push, type_), push
        return push

    async def nothing(self, name: str) -> None:
        """Check that the node has pushed nothing to this client: no frame comes before the reply to a request."""
        assert await self.ask(name, History(99, self.conversation, 1, None, None)) != []
        assert len(await self.ask(name, History(98, self.conversation, 1, None, None))) == 1


@asynccontextmanager
async def open_connected_people(pool: Pool, redis_url: str) -> AsyncGenerator[ConnectedPeople, None]:
    async with open_node(pool.url, redis_url) as node:
        people = {name: await new_user(pool, name) for name in ("alice", "bob", "carol")}
        room = ConnectedPeople(node, people, await new_direct(pool, people["alice"], people["bob"]))
        async with (
            node.open_websocket(people["alice"].token) as alice,
            node.open_websocket(people["alice"].token) as tablet,
            node.open_websocket(people["bob"].token) as bob,
            node.open_websocket(people["carol"].token) as carol,
        ):
            room.clients = {"alice": alice, "tablet": tablet, "bob": bob, "carol": carol}
            yield room


def edit(room: ConnectedPeople, seq: int, content: bytes, revision: int, *, request: int = 5) -> Edit:
    return Edit(request, room.conversation, seq, "text", content, b"n", None, revision)


async def test_an_edit_reaches_all_other_devices_and_history(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        temp_id = uuid4().bytes
        sent = await room.send("alice", b"frist", seen_by=("tablet", "bob"), temp_id=temp_id)
        revised = await room.reply("alice", edit(room, 1, b"first", 0), Revised)
        assert revised.revision == 1
        assert revised.edited >= sent.created
        me = room.people["alice"].user
        wanted = Message(
            *(room.conversation, 1, sent.message, sent.created, me, "text", b"first", b"n", None, temp_id),
            device=room.people["alice"].device,
            revision=1,
            edited=revised.edited,
        )
        for name in ("tablet", "bob"):
            wanted = replace(wanted, temp_id=temp_id if name == "tablet" else None)
            assert await room.pushed(name, Message) == wanted
            history = await room.reply(name, History(6, room.conversation, None, None, None), Messages)
            assert history == Messages(6, False, [wanted], 1)
        await room.nothing("alice")
        await room.ask("alice", List(7, None, None))


async def test_one_of_two_devices_that_edit_at_once_gets_a_conflict(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"x", seen_by=("tablet", "bob"))
        replies = []

        async def change(name: str) -> None:
            replies.append((name, (await room.ask(name, edit(room, 1, name.encode(), 0)))[-1]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, "alice")
            nursery.start_soon(change, "tablet")
        [winner] = [name for name, reply in replies if isinstance(reply, Revised)]
        [conflict] = [reply for _, reply in replies if isinstance(reply, Error)]
        assert (conflict.code, conflict.retry_after_ms) == ("revision_conflict", None)
        assert (await room.pushed("bob", Message)).content == winner.encode()


async def test_an_edit_that_is_repeated_is_done_once_and_answered_alike(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"x", seen_by=("tablet", "bob"))
        replies = [await room.reply("alice", edit(room, 1, b"y", 0), Revised) for _ in range(2)]
        assert replies[0] == replies[1]
        assert (await room.pushed("bob", Message)).revision == 1
        await room.nothing("bob")


@pytest.mark.parametrize(
    ("name", "code"), [("bob", "not_the_sender"), ("carol", "not_a_participant"), ("alice", "unknown_message")]
)
async def test_a_user_that_may_not_edit_or_delete_gets_an_error_that_says_why(
    pool: Pool, redis_url: str, name: str, code: str
) -> None:
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"x", seen_by=("tablet", "bob"))
        seq = 2 if name == "alice" else 1
        for frame in (edit(room, seq, b"y", 0), Delete(5, room.conversation, seq, True)):
            assert (await room.reply(name, frame, Error)).code == code
        await room.nothing("tablet")
        [message] = (await room.reply("bob", History(6, room.conversation, None, None, None), Messages)).messages
        assert isinstance(message, Message)
        assert message.content == b"x"


async def test_a_message_deleted_for_everyone_leaves_a_tombstone_and_no_content(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        sent = await room.send("alice", b"secret", seen_by=("tablet", "bob"))
        for _ in range(2):
            assert await room.reply("alice", Delete(5, room.conversation, 1, True), Done) == Done(5)
        tombstone = Tombstone(room.conversation, 1, sent.message, sent.created, room.people["alice"].user)
        for name in ("tablet", "bob"):
            assert await room.pushed(name, Tombstone) == tombstone
            history = await room.reply(name, History(6, room.conversation, None, None, None), Messages)
            assert history.messages == [tombstone]
        assert (await room.reply("alice", edit(room, 1, b"y", 0), Error)).code == "message_deleted"
        [conversation] = (await room.reply("bob", List(7, None, None), Conversations)).conversations
        assert conversation.last_message == tombstone
        assert (conversation.unread_count, conversation.uncounted_seqs) == (0, [1])
    assert await pool.fetch("select count(*) from messages where content = 'secret'::bytea") == [(0,)]


async def test_a_message_that_a_user_deletes_for_themselves_is_gone_on_their_devices_alone(
    pool: Pool, redis_url: str
) -> None:
    async with open_connected_people(pool, redis_url) as room:
        sent = await room.send("bob", b"x", seen_by=("alice", "tablet"))
        for _ in range(2):
            assert await room.reply("alice", Delete(5, room.conversation, 1, False), Done) == Done(5)
        tombstone = Tombstone(room.conversation, 1, sent.message, sent.created, room.people["bob"].user)
        assert await room.pushed("tablet", Tombstone) == tombstone
        ask = History(6, room.conversation, None, None, None)
        for name in ("alice", "tablet"):
            assert (await room.reply(name, ask, Messages)).messages == [tombstone]
        [message] = (await room.reply("bob", ask, Messages)).messages
        assert isinstance(message, Message)
        assert message.content == b"x"
        await room.nothing("bob")


async def test_history_pages_in_both_directions_and_between_two_seqs(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        for n in range(1, 11):
            await room.send("alice", b"%d" % n, seen_by=("tablet", "bob"))

        async def page(count: int | None, before: int | None, after: int | None) -> tuple[list[int], bool]:
            reply = await room.reply("bob", History(6, room.conversation, count, before, after), Messages)
            return [message.seq for message in reply.messages], reply.more

        assert await page(3, None, None) == ([10, 9, 8], True)
        assert await page(3, 8, None) == ([7, 6, 5], True)
        assert await page(3, 3, None) == ([2, 1], False)
        assert await page(2, 3, None) == ([2, 1], False)
        assert await page(3, None, 0) == ([1, 2, 3], True)
        assert await page(3, None, 8) == ([9, 10], False)
        assert await page(None, 7, 4) == ([5, 6], False)
        assert await page(1, 7, 4) == ([5], True)
        assert await page(None, 5, 4) == ([], False)
        assert await page(None, None, 10) == ([], False)


async def test_a_page_is_bounded_in_bytes_and_says_that_there_is_more(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        for _ in range(7):
            await room.send("alice", bytes(60_000), seen_by=("tablet", "bob"))
        reply = await room.reply("bob", History(6, room.conversation, None, None, None), Messages)
        assert [message.seq for message in reply.messages] in ([7, 6], [7, 6, 5])
        assert reply.more


async def test_the_list_pages_by_its_cursor(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        groups = [await new_group(pool, room.people["bob"], room.people["carol"]) for _ in range(5)]
        found: list[Conversation] = []
        cursor = None
        for _ in range(10):
            reply = await room.reply("bob", List(6, cursor, 2), Conversations)
            assert len(reply.conversations) <= 2
            found += reply.conversations
            cursor = reply.cursor
            if cursor is None:
                break
        assert [each.conversation for each in found] == [*reversed(groups), room.conversation]
        assert [each.username for each in found[0].participants] in (["bob", "carol"], ["carol", "bob"])
        assert (await room.reply("bob", List(6, b"no cursor", None), Error)).code == "cursor_foreign"


async def test_sync_brings_what_is_new_before_its_reply(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        *pushes, synced = await room.ask("bob", Sync(6, None))
        assert isinstance(synced, Synced)
        assert not synced.more
        own, conversation = pushes
        assert isinstance(own, OwnSettings)
        assert isinstance(conversation, Conversation)
        assert (conversation.last_seq, conversation.unread_count) == (0, 0)
        for n in range(3):
            await room.send("alice", b"%d" % n, seen_by=("tablet", "bob"))
        await room.reply("alice", edit(room, 1, b"edited", 0), Revised)
        await room.reply("alice", Delete(5, room.conversation, 2, True), Done)
        await room.clients["bob"].read(2)
        *pushes, again = await room.ask("bob", Sync(6, synced.cursor))
        assert isinstance(again, Synced)
        conversation, *messages = pushes
        assert isinstance(conversation, Conversation)
        assert (conversation.last_seq, conversation.unread_count) == (3, 2)
        assert [(type(each), each.seq) for each in messages] == [(Message, 1), (Tombstone, 2), (Message, 3)]  # type: ignore[union-attr]
        [nothing_more] = await room.ask("bob", Sync(6, again.cursor))
        assert isinstance(nothing_more, Synced)
        assert not nothing_more.more
        await room.reply("tablet", MarkRead(7, [(room.conversation, 3)]), Done)
        assert (await room.reply("bob", Sync(6, b"\xff" * 50), Error)).code == "cursor_foreign"
        assert (await room.reply("alice", Sync(6, again.cursor), Error)).code == "cursor_foreign", "the cursor is Bob's"


async def test_typing_reaches_the_others_at_most_so_often(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        alice = room.people["alice"].user
        for _ in range(5):
            await room.reply("alice", SetTyping(5, room.conversation, True), Done)
        assert await room.pushed("bob", Typing) == Typing(room.conversation, alice, True)
        await room.reply("alice", SetTyping(5, room.conversation, False), Done)
        assert await room.pushed("bob", Typing) == Typing(room.conversation, alice, False)
        for name in ("bob", "tablet", "carol"):
            if name != "carol":
                await room.nothing(name)
        assert (await room.reply("carol", SetTyping(5, room.conversation, True), Error)).code == "not_a_participant"
        await room.nothing("bob")


async def test_presence_is_shown_to_who_shares_a_conversation(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "GRACE_S", 0.3)
    async with open_connected_people(pool, redis_url) as room:
        bob = room.people["bob"].user
        frames = await room.ask("alice", Watch(5, [bob, room.people["carol"].user, secrets.token_bytes(16)]))
        assert frames == [Presence(bob, True), Done(5)]
        frames = await room.ask("carol", Watch(5, [bob, room.people["alice"].user]))
        assert frames == [Done(5)], "Carol shares no conversation with them"
        await room.clients["bob"].stream.aclose()
        assert await room.pushed("alice", Presence) == Presence(bob, False)
        async with room.node.open_websocket(room.people["bob"].token):
            assert await room.pushed("alice", Presence) == Presence(bob, True)
            assert await room.ask("alice", Watch(5, [])) == [Done(5)]
        await room.nothing("alice")
        assert room.node.gateway.node.presence.users() == []


async def test_a_phone_that_changes_networks_does_not_flicker(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "POLL_S", 0.05)
    async with open_connected_people(pool, redis_url) as room:
        bob = room.people["bob"]
        assert await room.ask("alice", Watch(5, [bob.user])) == [Presence(bob.user, True), Done(5)]
        await room.clients["bob"].stream.aclose()
        await wait_until(lambda: not room.node.gateway.hub.holds(bob.user), "the phone has gone", timeout_s=3)
        for _ in range(5):
            async with room.node.open_websocket(bob.token):
                await let_pass(0.1, why="each stay of the phone is shorter than the grace")
        await room.nothing("alice")


async def test_limits_of_arrays_are_those_of_the_specification(pool: Pool, redis_url: str) -> None:
    async with open_connected_people(pool, redis_url) as room:
        users = [secrets.token_bytes(16) for _ in range(limits.MAX_WATCHED)]
        assert await room.ask("carol", Watch(5, users)) == [Done(5)]
        error = await room.reply("carol", Watch(5, [*users, users[0]]), Error)
        assert error.code == "invalid_frame"


async def test_an_edit_that_is_repeated_after_another_device_s_edit_was_done(pool: Pool, redis_url: str) -> None:
    """The reply to the edit was lost, and meanwhile the tablet has edited the new version: the repeat is answered as
    done, and changes nothing."""
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"x", seen_by=("tablet", "bob"))
        lost = await room.reply("alice", edit(room, 1, b"y", 0), Revised)
        assert (await room.pushed("tablet", Message)).revision == 1
        await room.reply("tablet", edit(room, 1, b"z", 1), Revised)
        assert (await room.pushed("alice", Message)).revision == 2
        assert await room.reply("alice", edit(room, 1, b"y", 0), Revised) == lost
        assert (await room.reply("alice", edit(room, 1, b"other", 0), Error)).code == "revision_conflict"
        told = [push for push in await room.clients["bob"].read(2) if isinstance(push, Message)]
        assert [push.content for push in told] == [b"y", b"z"]
        await room.nothing("bob")
        page = await room.reply("alice", History(6, room.conversation, None, None, None), Messages)
        assert [entry.content for entry in page.messages if isinstance(entry, Message)] == [b"z"]


@pytest.mark.parametrize(("deleter", "for_everyone"), [("alice", True), ("alice", False), ("bob", False)])
async def test_a_tombstone_can_be_answered(pool: Pool, redis_url: str, deleter: str, for_everyone: bool) -> None:
    """Bob may have written his answer before he heard of the deletion, of either kind."""
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"question", seen_by=("tablet", "bob"))
        await room.reply(deleter, Delete(2, room.conversation, 1, for_everyone), Done)
        answer = Send(3, room.conversation, "text", b"answer", None, None, uuid4().bytes, 1)
        sent = await room.reply("bob", answer, Sent)
        assert await room.reply("bob", answer, Sent) == sent, "a retry gets the same reply"
        told = await room.clients["tablet"].find(Message)
        assert (told.content, told.reply_to) == (b"answer", 1)
        for nowhere in (0, 3, 2**63 - 1):
            beyond = Send(4, room.conversation, "text", b"answer", None, None, uuid4().bytes, nowhere)
            assert (await room.reply("bob", beyond, Error)).code == "unknown_message"


async def test_attachments_and_thumbnail_reach_all_other_devices_and_stay_what_an_edit_makes_them(
    pool: Pool, redis_url: str
) -> None:
    async with open_connected_people(pool, redis_url) as room:
        files = [await new_upload(pool, room.people["alice"].user) for _ in range(2)]
        first = Send(3, room.conversation, "text", b"x", None, None, uuid4().bytes, None, files, b"small")
        sent = await room.reply("alice", first, Sent)
        assert await room.reply("alice", first, Sent) == sent
        second = replace(edit(room, 1, b"y", 0), attachments=files[:1], thumbnail=b"other")
        await room.reply("alice", second, Revised)
        await room.reply("alice", edit(room, 1, b"z", 1), Revised)
        shown = [(files, b"small"), (files[:1], b"other"), (None, None)]
        for name in ("tablet", "bob"):
            pushes = [push for push in await room.clients[name].read(3) if isinstance(push, Message)]
            assert [(push.attachments, push.thumbnail) for push in pushes] == shown
            await room.nothing(name)


REFUSED = {
    "unknown_attachment": {"owner": "bob"},
    "attachment_incomplete": {"is_complete": False},
    "attachment_used": {"seq": 1},
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_client_is_told_by_name_why_a_message_cannot_have_an_attachment(
    pool: Pool, redis_url: str, code: str
) -> None:
    """A send and an edit; neither has a next step but to change the list."""
    async with open_connected_people(pool, redis_url) as room:
        await room.send("alice", b"x", seen_by=("tablet", "bob"))
        await room.send("alice", b"y", seen_by=("tablet", "bob"))
        owner, of = REFUSED[code].get("owner", "alice"), REFUSED[code].get("seq")
        file = await new_upload(
            pool,
            room.people[str(owner)].user,
            is_complete=bool(REFUSED[code].get("is_complete", True)),
            message=None if of is None else (room.conversation, 1),
        )
        send = Send(3, room.conversation, "text", b"z", None, None, uuid4().bytes, None, [file])
        for frame in (send, replace(edit(room, 2, b"z", 0), attachments=[file])):
            error = await room.reply("alice", frame, Error)
            assert (error.code, error.retry_after_ms) == (code, None)
        await room.nothing("bob")


@pytest.mark.parametrize(
    "frame",
    [
        Upload(2, [(1, "a/b", bytes(32), None)]),
        Parts(2, None, bytes(16)),
        Complete(2, [bytes(16)]),
        Download(2, [bytes(16)]),
        Abort(2, [bytes(16)]),
    ],
)
async def test_a_deployment_without_an_object_store_says_so(pool: Pool, redis_url: str, frame: Request) -> None:
    async with open_connected_people(pool, redis_url) as room:
        error = await room.reply("alice", frame, Error)
        assert (error.code, error.retry_after_ms) == ("no_object_store", None)

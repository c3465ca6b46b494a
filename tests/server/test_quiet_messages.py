"""Quiet messages: they come like any other, and change neither unread counts, nor notices, nor the place in a list."""

from __future__ import annotations

from uuid import UUID

import pytest

from client.http import Credentials
from protocol.frames import (
    Conversation,
    Delete,
    Done,
    Edit,
    Error,
    History,
    MarkRead,
    Message,
    Messages,
    Receipts,
    Revised,
    Send,
    Sent,
    Sync,
    Synced,
    Tombstone,
)
from store import conversations, notifiers, outbox, retention
from store.marks import Mark, mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.ageing import age
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.http_world import open_api
from tests.server.node_world import open_node
from tests.store.store_world import a_message


async def say(pool: Pool, talk: bytes, sender: Credentials, *are_quiet: bool) -> list[Committed]:
    """Messages of one batch, quiet or not."""
    batch = [a_message(talk, sender.user, is_quiet=is_quiet) for is_quiet in are_quiet]
    outcomes = await send(pool, ParticipantsCache(), batch)
    committed = [each for each in outcomes if isinstance(each, Committed)]
    assert len(committed) == len(batch), outcomes
    return committed


async def seen(pool: Pool, who: Credentials, talk: bytes) -> Conversation:
    return await conversations.one(pool, who.user, talk)


async def test_a_quiet_message_comes_like_any_other_and_says_that_it_is_quiet(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """Pushed on another node, in history, by sync and over HTTP; also after an edit, and as a tombstone."""
    alice, bob, _ = people
    async with (
        open_node(pool.url, redis_url) as here,
        open_node(pool.url, redis_url) as there,
        open_api(pool, redis_url) as api,
        here.open_websocket(alice.token) as writer,
        there.open_websocket(bob.token) as reader,
    ):
        for node in (here, there):
            await node.gateway.node.catch_up.settled.wait()
        [*_, synced] = await reader.ask(Sync(1, None))
        assert isinstance(synced, Synced)
        [*_, sent] = await writer.ask(Send(2, direct, "key", b"k", None, None, b"a" * 16, is_quiet=True))
        assert isinstance(sent, Sent)
        assert sent.quiet_count == 1
        again = Send(3, direct, "key", b"k", None, None, b"a" * 16)
        [*_, refused] = await writer.ask(again)
        assert isinstance(refused, Error)
        assert refused.code == "temp_id_conflict", "whether it is quiet belongs to the message"
        pushed = await reader.find(Message)
        assert (pushed.seq, pushed.is_quiet, pushed.quiet_count) == (1, True, 1)
        [*_, page] = await reader.ask(History(4, direct, None, None, None))
        assert isinstance(page, Messages)
        assert page.messages == [pushed]
        listed = await api.of(bob.token).get(f"/v1/conversations/{UUID(bytes=direct)}/messages")
        assert [each["is_quiet"] for each in listed.body["messages"]] == [True]
        [*_, revised] = await writer.ask(Edit(5, direct, 1, "key", b"l", None, None, 0))
        assert isinstance(revised, Revised)
        edited = await reader.find(Message)
        assert (edited.revision, edited.is_quiet, edited.quiet_count) == (1, True, 1)
        news = await reader.ask(Sync(6, synced.cursor))
        assert [each for each in news if isinstance(each, Message)] == [edited]
        assert (await writer.ask(Delete(7, direct, 1, True)))[-1] == Done(7)
        gone = await reader.find(Tombstone)
        assert (gone.is_quiet, gone.quiet_count) == (True, 1)
        assert (await seen(pool, bob, direct)).unread_count == 0


async def test_a_quiet_message_changes_neither_the_place_in_the_list_nor_the_last_message_nor_the_unread_count(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    talk, other = await new_direct(pool, alice, bob), await new_direct(pool, bob, carol)
    await say(pool, talk, alice, False)
    await say(pool, other, carol, False)
    before = await seen(pool, bob, talk)
    committed = await say(pool, talk, alice, True) + await say(pool, talk, alice, True, True)
    after = await seen(pool, bob, talk)
    assert (after.last_seq, after.active_at, after.unread_count) == (4, before.active_at, 1)
    assert after.last_message == before.last_message
    assert after.quiet_counts == [(0, 0), (4, 3)]
    assert [each.conversation for each in await conversations.list_of(pool, bob.user, limit=9)] == [other, talk]
    [said] = await say(pool, talk, alice, False)
    assert said.created >= committed[-1].created, "times never go back, though active_at stood still"
    last = await seen(pool, bob, talk)
    assert last.last_message is not None
    assert (last.last_message.seq, last.unread_count, last.active_at) == (5, 2, said.created)
    assert [each.conversation for each in await conversations.list_of(pool, bob.user, limit=9)] == [talk, other]


async def test_a_conversation_of_quiet_messages_alone_has_no_last_message(
    pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice, True)
    shown = await seen(pool, bob, talk)
    assert (shown.last_message, shown.last_seq, shown.unread_count, shown.quiet_counts) == (
        None,
        1,
        0,
        [(0, 0), (1, 1)],
    )
    await say(pool, talk, alice, True, False, True)
    shown = await seen(pool, bob, talk)
    assert shown.last_message is not None
    assert (shown.last_message.seq, shown.unread_count) == (3, 1)


async def test_a_user_who_sends_a_quiet_message_has_not_read_the_conversation(
    pool: Pool, people: list[Credentials]
) -> None:
    """A client sends it by itself, such as a key; it would else hide what others wrote."""
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice, False, False)
    await say(pool, talk, bob, True)
    await say(pool, talk, bob, True, True)
    mine = await seen(pool, bob, talk)
    assert mine.unread_count == 2
    theirs = await seen(pool, alice, talk)
    assert [each.read_seq for each in theirs.participants or () if each.user == bob.user] == [0]
    await say(pool, talk, bob, False)
    assert (await seen(pool, bob, talk)).unread_count == 0


async def test_the_users_own_devices_are_told_how_many_messages_up_to_the_read_mark_are_quiet(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """A device that does not hold the messages there could not compute the unread count otherwise."""
    alice, bob, _ = people
    tablet = await new_device(pool, bob.user)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(bob.token) as phone,
        node.open_websocket(tablet.token) as other,
        node.open_websocket(alice.token) as writer,
    ):
        await say(pool, direct, alice, False)
        await other.ask(MarkRead(1, [(direct, 1)]))
        assert (await phone.find(Receipts)).quiet_counts is None, "no message is quiet"
        await say(pool, direct, alice, True, False, True, False)
        await other.ask(MarkRead(2, [(direct, 3)]))
        assert (await phone.find(Receipts)).quiet_counts == [(3, 1)]
        await other.ask(MarkRead(3, [(direct, 9)]))
        assert (await phone.find(Receipts)).quiet_counts == [(5, 2)]
        receipts = [await writer.find(Receipts) for _ in range(3)]
        assert [each.quiet_counts for each in receipts] == [None] * 3, "it says nothing of the marks of others"


async def test_a_catch_up_tells_how_many_messages_up_to_a_read_mark_are_quiet(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """The mark was committed by a process that died before it told any node."""
    alice, bob, _ = people
    await say(pool, direct, alice, True, False, True)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as reader:
        await reader.ask(Sync(1, None))
        await mark(pool, [[Mark(bob.user, direct, 2, 2)]])
        node.gateway.node.catch_up.request(1)
        told = await reader.find(Receipts)
        while told.quiet_counts is None:
            told = await reader.find(Receipts)
        assert (told.receipts, told.quiet_counts) == ([(bob.user, 2, 2)], [(2, 1)])


async def test_settings_tell_how_many_messages_up_to_a_floor_are_quiet(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)
    await say(pool, talk, alice, True, False, True, False)
    await age(pool, talk, upto=2)
    await retention.move_floors(pool, days=50, archives=False, limit=9)
    [told] = await retention.unannounced(pool, limit=9)
    assert (told.settings.first_seq, told.settings.quiet_counts) == (3, [(2, 1)])
    assert (await seen(pool, bob, talk)).unread_count == 1


async def test_a_quiet_message_causes_no_notice_and_is_not_told_in_one(pool: Pool, people: list[Credentials]) -> None:
    alice, bob, _ = people
    talk = await new_direct(pool, alice, bob)

    async def waits() -> tuple[bool, int]:
        context = await notifiers.notice_context(pool, bob.user, read_after_s=0)
        assert context is not None
        return context.is_undelivered, context.unread

    await say(pool, talk, alice, True, True)
    assert await outbox.decide(pool, window_s=0) == (2, 0)
    assert await waits() == (False, 0)
    await say(pool, talk, alice, False, True)
    assert await outbox.decide(pool, window_s=0) == (2, 1)
    assert await waits() == (True, 1)
    await mark(pool, [[Mark(bob.user, talk, 3, 3)]])
    assert await waits() == (False, 0), "only a quiet one is undelivered and unread"


@pytest.mark.parametrize("quiet", [0, 2])
async def test_a_request_causes_a_notice_for_its_first_message_that_is_not_quiet(
    pool: Pool, people: list[Credentials], quiet: int
) -> None:
    """A client may begin with keys."""
    bob = people[1]
    stranger = await new_user(pool, "stranger")
    talk, _ = await conversations.add_direct(pool, stranger.user, bob.user)
    await say(pool, talk, stranger, *[True] * quiet, False, False)
    assert await outbox.decide(pool, window_s=0) == (quiet + 2, 1)
    context = await notifiers.notice_context(pool, bob.user, read_after_s=0)
    assert context is not None
    assert (context.is_undelivered, context.unread) == (True, 1)


async def test_a_device_that_asks_for_the_newest_messages_gets_the_last_one_that_is_not_quiet_too(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """It is what the device shows in its list."""
    alice, bob, carol = people
    talk = await new_group(pool, alice, bob, carol)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as reader:
        [*_, synced] = await reader.ask(Sync(1, None))
        assert isinstance(synced, Synced)
        await say(pool, talk, alice, False, False, True, True, True)
        news = await reader.ask(Sync(2, synced.cursor, count=1))
        assert [each.seq for each in news if isinstance(each, Message)] == [2, 5]

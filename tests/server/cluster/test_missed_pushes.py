"""A push that was lost without a sign is noticed before a cursor passes it, counted, and fetched (P4, P12)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from client.http import Credentials
from protocol.codec import encode
from protocol.frames import Cursor, Lag, Message, Send, Sync, Synced
from server.cluster import catch_up as catch_up_module
from server.cluster import cursor_advance as cursor_advance_module
from server.cluster import missed_pushes as missed_module
from server.cluster.missed_pushes import MissedStatistics
from store import contacts, participants, revisions
from store.postgres.pool import Pool
from store.redis.directory import leave, locate
from store.redis.entries import AddressedPush
from tests.people import new_direct, new_group, new_user
from tests.server.http_world import say
from tests.server.node_world import RawClient, TestNode, open_node


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor_advance_module, "SETTLE_S", 0.3)
    monkeypatch.setattr(cursor_advance_module, "INTERVAL_S", 0.4)
    monkeypatch.setattr(missed_module, "AGAIN_S", 0.1)


class WriterAndReader(NamedTuple):
    """
    :ivar reader: Bob's device, which has synced up to `cursor`. Alice writes to it, through the node, in `told`.
    """

    pool: Pool
    node: TestNode
    reader: RawClient
    writer: RawClient
    alice: Credentials
    bob: Credentials
    told: bytes
    group: bytes
    cursor: bytes

    async def give_news(self) -> None:
        await self.writer.ask(Send(5, self.told, "text", b"news", None, None, secrets.token_bytes(16)))

    def statistics(self) -> MissedStatistics:
        return self.node.gateway.node.missed.statistics()


@asynccontextmanager
async def open_writer_and_reader(pool: Pool, redis_url: str) -> AsyncGenerator[WriterAndReader]:
    alice, bob, carol = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    told, group = await new_direct(pool, alice, bob), await new_group(pool, alice, bob, carol)
    async with open_node(pool.url, redis_url) as node:
        await node.wait_event("caught_up")
        async with node.open_websocket(bob.token) as reader, node.open_websocket(alice.token) as writer:
            synced = (await reader.ask(Sync(1, None)))[-1]
            assert isinstance(synced, Synced)
            yield WriterAndReader(pool, node, reader, writer, alice, bob, told, group, synced.cursor)
            # These tests provoke these two errors; all other errors are faults.
            node.logs[:] = [line for line in node.logs if line["event"] not in ("push_missed", "user_not_found_here")]


async def test_a_message_whose_push_was_lost_is_fetched_before_the_cursor_passes_it(pool: Pool, redis_url: str) -> None:
    async with open_writer_and_reader(pool, redis_url) as scene:
        [lost] = await say(pool, scene.group, scene.alice.user, b"lost")
        await scene.give_news()
        assert not any(isinstance(frame, Cursor) for frame in await up_to(scene.reader, Lag))
        [line] = [line for line in scene.node.logs if line["event"] == "push_missed"]
        assert (line["device"], line["node"]) == (scene.bob.device.hex(), scene.node.gateway.node.id.hex())
        assert (line["conversation"], line["seq"]) == (scene.group.hex(), lost.seq)
        assert scene.statistics() == MissedStatistics(pushes=1, devices=0)
        synced = await scene.reader.ask(Sync(2, scene.cursor))
        assert b"lost" in [frame.content for frame in synced if isinstance(frame, Message)]
        await scene.give_news()
        assert isinstance(await scene.reader.find(Cursor), Cursor), "the cursor moves again afterwards"


async def test_a_push_lost_while_a_device_was_quiet_is_found_when_the_device_gets_news(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node advances other devices' cursors meanwhile: each user has been checked up to a time of their own."""
    monkeypatch.setattr(missed_module, "MARGIN_S", 0.0)
    async with open_writer_and_reader(pool, redis_url) as scene:
        await scene.give_news()
        await scene.reader.find(Cursor)
        [lost] = await say(pool, scene.group, scene.alice.user, b"lost")
        erin = await new_user(pool, "erin")
        chat = await new_direct(pool, scene.alice, erin)
        async with scene.node.open_websocket(erin.token) as other:
            await other.ask(Sync(1, None))
            for number in range(3):
                await scene.writer.ask(Send(10 + number, chat, "text", b"news", None, None, secrets.token_bytes(16)))
                await other.find(Cursor)
        assert scene.statistics() == MissedStatistics(0, 0), "nothing was due to be checked for Bob's quiet device"
        await scene.give_news()
        assert not any(isinstance(frame, Cursor) for frame in await up_to(scene.reader, Lag))
        assert scene.statistics() == MissedStatistics(pushes=1, devices=0)
        synced = await scene.reader.ask(Sync(2, scene.cursor))
        assert lost.seq in [frame.seq for frame in synced if isinstance(frame, Message)]


async def test_a_device_that_stays_quiet_is_asked_in_time_to_fetch_a_lost_push(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed_module, "MARGIN_S", 0.0)
    monkeypatch.setattr(cursor_advance_module, "QUIET_S", 1.0)
    async with open_writer_and_reader(pool, redis_url) as scene:
        await scene.give_news()
        await scene.reader.find(Cursor)
        await say(pool, scene.group, scene.alice.user, b"lost")
        await scene.reader.find(Lag)
        assert scene.statistics() == MissedStatistics(pushes=1, devices=0)


async def up_to(client: RawClient, type_: type[Any]) -> list[Any]:
    """The pushes up to a frame of this type."""
    frames: list[Any] = []
    while not any(isinstance(frame, type_) for frame in frames):
        frames += await client.read(1)
    return frames


async def own(scene: WriterAndReader) -> None:
    await say(scene.pool, scene.group, scene.bob.user, b"own")


async def silent(scene: WriterAndReader) -> None:
    await contacts.set_blocked(scene.pool, scene.bob.user, scene.alice.user, is_blocked=True)
    direct = await new_direct(scene.pool, scene.bob, scene.alice)
    await say(scene.pool, direct, scene.alice.user, b"silent")
    await contacts.set_blocked(scene.pool, scene.bob.user, scene.alice.user, is_blocked=False)


async def hidden(scene: WriterAndReader) -> None:
    [sent] = await say(scene.pool, scene.group, scene.alice.user, b"gone")
    await revisions.delete_for_me(scene.pool, scene.bob.user, scene.group, sent.seq)


async def before_joining(scene: WriterAndReader) -> None:
    group = await new_group(scene.pool, scene.alice, await new_user(scene.pool, "dave"))
    await participants.change_settings(scene.pool, scene.alice.user, group, joiners_see_all=True)
    await say(scene.pool, group, scene.alice.user, b"early")
    await participants.add(scene.pool, scene.alice.user, group, scene.bob.user)


@pytest.mark.parametrize("write", [own, silent, hidden, before_joining])
async def test_a_write_that_causes_no_push_to_a_device_is_no_miss(
    pool: Pool, redis_url: str, write: Callable[[WriterAndReader], Awaitable[None]]
) -> None:
    async with open_writer_and_reader(pool, redis_url) as scene:
        await write(scene)
        await scene.give_news()
        await scene.reader.find(Cursor)
        await scene.give_news()
        await scene.reader.find(Cursor)
        assert scene.statistics() == MissedStatistics(0, 0)


@pytest.mark.parametrize("is_followed", [False, True])
async def test_messages_that_a_catch_up_leaves_to_history_are_no_miss(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, is_followed: bool
) -> None:
    """The client sees by the seq that there are more of them than a node pushes."""
    monkeypatch.setattr(catch_up_module, "MAX_CATCH_UP", 3)
    async with open_writer_and_reader(pool, redis_url) as scene:
        if is_followed:
            await scene.writer.ask(Send(6, scene.group, "text", b"live", None, None, secrets.token_bytes(16)))
            await scene.reader.find(Message)
        await say(pool, scene.group, scene.alice.user, *[b"lost"] * 9)
        scene.node.gateway.node.catch_up.request(1.0)
        await scene.reader.find(Message)
        await scene.give_news()
        await scene.reader.find(Cursor)
        assert scene.statistics() == MissedStatistics(0, 0)


async def test_messages_of_two_nodes_that_come_in_the_wrong_order_are_no_miss(pool: Pool, redis_url: str) -> None:
    """They are the first ones of their conversation here."""
    async with open_writer_and_reader(pool, redis_url) as scene:
        hub, sender = scene.node.gateway.hub, scene.alice.user
        for sent in reversed(await say(pool, scene.group, sender, b"one", b"two", b"three")):
            message = Message(scene.group, sent.seq, sent.message, sent.created, sender, "text", b"", None, None)
            hub.push(AddressedPush(scene.group, sent.seq, encode(message), (scene.bob.user,)))
        await scene.give_news()
        await scene.reader.find(Cursor)
        assert scene.statistics() == MissedStatistics(0, 0)


async def test_a_message_written_before_a_device_connected_is_no_miss(pool: Pool, redis_url: str) -> None:
    async with open_writer_and_reader(pool, redis_url) as scene:
        await say(pool, scene.group, scene.alice.user, b"before")
        carol = await new_user(pool, "dave")
        group = await new_group(pool, carol, scene.alice)
        await say(pool, group, scene.alice.user, b"before")
        async with scene.node.open_websocket(carol.token) as late:
            await late.ask(Sync(1, None))
            await scene.writer.ask(Send(6, group, "text", b"news", None, None, secrets.token_bytes(16)))
            await late.find(Cursor)
        assert not [line for line in scene.node.logs if line.get("device") == carol.device.hex()]


async def test_a_user_whom_other_nodes_do_not_find_here_is_entered_again_and_fetches(
    pool: Pool, redis_url: str
) -> None:
    async with open_writer_and_reader(pool, redis_url) as scene:
        node = scene.node.gateway.node
        redis = scene.node.gateway.redis
        await leave(redis, node.id, [scene.bob.user])
        await scene.give_news()
        await scene.reader.find(Lag)
        assert await locate(redis, [scene.bob.user]) == [(node.id,)]
        assert scene.statistics() == MissedStatistics(pushes=0, devices=1)

"""A connected device's cursor moves forward, and never past anything that was not offered to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.frames import (
    Conversation,
    Cursor,
    Error,
    Hello,
    Lag,
    MarkDelivered,
    Message,
    Participants,
    Ping,
    Pong,
    Send,
    Sync,
    Synced,
    Welcome,
)
from server.cluster import catch_up, cursor_advance
from store import account_deletions
from store.cli.restored import begin_history
from store.postgres.pool import Pool
from store.sync import CursorSnapshot
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.http_world import say
from tests.server.node_world import RawClient, TestNode, open_node
from tests.waiting import let_pass, wait_until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter times: 20 s and 30 s are for clusters in trouble."""
    monkeypatch.setattr(cursor_advance, "SETTLE_S", 0.3)
    monkeypatch.setattr(cursor_advance, "INTERVAL_S", 0.4)


@asynccontextmanager
async def talking(
    pool: Pool, redis_url: str, writer: Credentials, reader: Credentials
) -> AsyncGenerator[tuple[TestNode, RawClient, RawClient, bytes], None]:
    """A writer, and a reader that has synced, on a node that has finished its first catch-up."""
    direct = await new_direct(pool, writer, reader)
    async with open_node(pool.url, redis_url) as node:
        await node.wait_event("caught_up")
        async with node.open_websocket(writer.token) as writes, node.open_websocket(reader.token) as reads:
            assert isinstance((await reads.ask(Sync(1, None)))[-1], Synced)
            yield node, writes, reads, direct


async def send(client: RawClient, conversation: bytes) -> None:
    await client.ask(Send(5, conversation, "text", b"x", None, None, uuid4().bytes))


async def test_a_device_gets_one_cursor_that_covers_its_pushes_and_then_none_until_more_comes(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    async with talking(pool, redis_url, alice, bob) as (node, writes, reads, direct):
        await send(writes, direct)
        assert (await reads.find(Message)).seq == 1
        cursor = await reads.find(Cursor)
        while True:
            # The first cursor may be from before the message.
            frames = await reads.ask(Sync(2, cursor.cursor))
            if not any(isinstance(frame, Message) for frame in frames):
                break
            await send(writes, direct)
            cursor = await reads.find(Cursor)
        settled = node.gateway.node.cursor_advance.settled
        await wait_until(lambda: node.gateway.node.cursor_advance.settled is not settled, "another look")
        settled = node.gateway.node.cursor_advance.settled
        await wait_until(lambda: node.gateway.node.cursor_advance.settled is not settled, "and another one")
        [only] = await writes.ask(Ping(9))
        assert isinstance(only, Pong), "a device that has not synced has no cursor to move"


async def test_while_something_may_be_missing_no_cursor_moves(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    async with talking(pool, redis_url, alice, bob) as (node, writes, reads, direct):
        settled = node.gateway.node.cursor_advance.settled
        with trio.move_on_after(2):
            while True:
                # A gap that the node notices repeatedly.
                node.gateway.node.catch_up.request(0)
                await send(writes, direct)
                await let_pass(0.05, why="gaps come at intervals")
        assert node.gateway.node.cursor_advance.settled is settled
        frames = await reads.ask(Ping(9))
        assert not any(isinstance(frame, Cursor) for frame in frames)
        await send(writes, direct)
        assert isinstance(await reads.find(Cursor), Cursor), "cursors move again afterwards"


async def test_no_cursor_moves_while_a_worker_has_still_to_tell_of_a_deleted_account(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """A worker that is killed after a step tells the nodes when the next one comes."""
    async with talking(pool, redis_url, alice, bob) as (node, writes, _, direct):
        advance = node.gateway.node.cursor_advance
        await account_deletions.close(pool, carol.user, delay_s=0, deletes_messages=False)
        await pool.fetch("update account_deletions set steps = 1, untold_since = now()")
        await let_pass(1, why="a look that had begun before may still settle")
        settled = advance.settled
        for _ in range(20):
            await send(writes, direct)
            await let_pass(0.1, why="several looks happen meanwhile")
        assert advance.settled is settled
        await account_deletions.note_told(pool, await account_deletions.untold(pool))
        await wait_until(lambda: advance.settled is not settled, "cursors move again afterwards")


async def test_no_cursor_moves_during_a_catch_up_however_long_it_takes(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cursor that passed a change would leave it out for a device that goes before the change is pushed."""
    is_held, let_go, looks = trio.Event(), trio.Event(), Counter[str]()
    find, look = catch_up.revised_since, cursor_advance.take_cursor_snapshot

    async def find_late(*arguments: Any, **named: Any) -> Any:
        is_held.set()
        await let_go.wait()
        return await find(*arguments, **named)

    async def look_and_count(pool: Pool) -> CursorSnapshot:
        looks["begun"] += 1
        return await look(pool)

    async with talking(pool, redis_url, alice, bob) as (node, writes, reads, direct):
        monkeypatch.setattr(catch_up, "revised_since", find_late)
        monkeypatch.setattr(cursor_advance, "take_cursor_snapshot", look_and_count)
        node.gateway.node.catch_up.request(0)
        await is_held.wait()
        settled, before = node.gateway.node.cursor_advance.settled, looks["begun"]
        await send(writes, direct)
        await wait_until(lambda: looks["begun"] >= before + 4, "cursors had two more occasions to move")
        assert node.gateway.node.cursor_advance.settled is settled
        let_go.set()
        assert isinstance(await reads.find(Cursor), Cursor), "cursors move again afterwards"


async def test_a_hello_with_a_cursor_is_followed_by_what_is_new(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """One round trip. The server answers an invalid cursor with an invitation to sync, which says why."""
    async with talking(pool, redis_url, alice, bob) as (node, writes, reads, direct):
        synced = (await reads.ask(Sync(2, None)))[-1]
        assert isinstance(synced, Synced)
        await send(writes, direct)
        await say(pool, direct, alice.user, b"y")
        async with node.open_websocket() as back:
            await back.send(Hello(7, bob.token, 1, synced.cursor))
            frames = await back.read(5)
            kinds = [type(frame) for frame in frames if not isinstance(frame, Participants)]
            assert kinds == [Welcome, Conversation, Message, Message, Cursor]
            last = frames[-1]
            assert isinstance(last, Cursor)
            assert not last.more
            [nothing] = await back.ask(Sync(8, last.cursor))
            assert isinstance(nothing, Synced)
        async with node.open_websocket() as foreign:
            await foreign.send(Hello(7, alice.token, 1, synced.cursor))
            frames = await foreign.read(2)
            assert [type(frame) for frame in frames] == [Welcome, Lag]
            [refused] = await foreign.ask(Sync(8, synced.cursor))
            assert isinstance(refused, Error)
            assert refused.code == "cursor_foreign"


async def test_when_postgres_history_is_another_one_devices_are_asked_to_sync(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    """After a fail-over, or a restored backup, the former pushes say nothing about the new history."""
    async with talking(pool, redis_url, alice, bob) as (node, writes, reads, direct):
        await send(writes, direct)
        await reads.find(Message)
        assert node.gateway.hub.span(direct) is not None
        assert node.gateway.statistics().participant_lists == 1
        await begin_history(pool.url)
        assert await reads.find(Lag) == Lag([])
        assert node.gateway.hub.span(direct) is None
        assert node.gateway.statistics().participant_lists == 0, "a version names another list now"
        [refused] = await reads.ask(Sync(2, (await _cursor(reads)).cursor))
        assert isinstance(refused, Synced), "a new cursor is good"


@pytest.mark.parametrize("who", ["a third participant", "the same user"])
async def test_a_cursor_that_was_moved_while_connected_brings_the_marks_that_were_not_pushed(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, who: str
) -> None:
    """Receipts go to the senders of the messages that the marks pass; other participants learn of them by resuming."""
    carol = await new_user(pool, "carol")
    group = await new_group(pool, alice, bob, carol)
    async with open_node(pool.url, redis_url) as node:
        await node.wait_event("caught_up")
        reader = carol if who == "a third participant" else await new_device(pool, alice.user)
        async with (
            node.open_websocket(alice.token) as marks,
            node.open_websocket(bob.token) as writes,
            node.open_websocket(reader.token) as reads,
        ):
            await reads.ask(Sync(1, None))
            await send(writes, group)
            await reads.find(Message)
            await marks.ask(MarkDelivered(2, [(group, 1)]))
            cursor = await reads.find(Cursor)
            settled = node.gateway.node.cursor_advance.settled
            await send(writes, group)
            await reads.find(Message)
            await wait_until(lambda: node.gateway.node.cursor_advance.settled is not settled, "a look after the mark")
            cursor = await reads.find(Cursor)
            frames = await reads.ask(Sync(3, cursor.cursor))
        told = {
            each.user: each.delivered_seq
            for frame in frames
            if isinstance(frame, Participants)
            for each in frame.participants
        }
        assert told[alice.user] == 1


async def _cursor(client: RawClient) -> Synced:
    synced = (await client.ask(Sync(3, None)))[-1]
    assert isinstance(synced, Synced)
    return synced

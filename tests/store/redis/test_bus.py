"""Streams between nodes, and the directory of users: all of it may vanish, none of it may grow without bound."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import pytest
import trio

from store.redis import bus, directory
from store.redis.bus import Inbox, publish, stream_of
from store.redis.client import Redis
from store.redis.directory import DIRECTORY, NODES, beat, enter, leave, left_in_good_order, locate, sign_off
from tests.store.store_world import running
from tests.waiting import wait_until

A, B, C = b"node-aaa", b"node-bbb", b"node-ccc"
U, V, W = (bytes([n]) * 16 for n in range(3))


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    async with running(redis_url) as redis:
        yield redis


async def opened(redis: Redis, node: bytes) -> Inbox:
    inbox = Inbox(redis, node)
    await inbox.open()
    await beat(redis, node, inbox.position)
    return inbox


async def end_lease(redis: Redis, node: bytes) -> None:
    """As if the node had been silent for longer than its lease."""
    await redis.call("ZADD", NODES[0], 1, node)


class InboxFollower:
    """Follows an inbox and keeps the entries."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.got: list[bytes] = []

    async def follow(self) -> None:
        async def keep(entries: list[bytes]) -> None:
            self.got += entries

        await self.inbox.follow(keep)

    async def wait_for(self, count: int) -> list[bytes]:
        async def enough() -> bool:
            return len(self.got) >= count

        await wait_until(enough, f"{count} entries")
        return self.got


async def test_user_is_located_at_every_node_that_holds_them(redis: Redis) -> None:
    for node in (A, B):
        await opened(redis, node)
    await enter(redis, A, [U, V])
    await enter(redis, B, [U])
    assert [set(nodes) for nodes in await locate(redis, [U, V, W])] == [{A, B}, {A}, set()]
    await leave(redis, A, [U, V, W])
    assert await locate(redis, [U, V, W]) == [(B,), (), ()]
    assert await redis.call("HLEN", DIRECTORY[0]) == 1


async def test_entering_and_leaving_twice_is_like_once(redis: Redis) -> None:
    for node in (A, B):
        await opened(redis, node)
    for _ in range(2):
        await enter(redis, A, [U, U])
        await enter(redis, B, [U])
    [nodes] = await locate(redis, [U])
    assert sorted(nodes) == [A, B]
    for _ in range(2):
        await leave(redis, B, [U])
    assert await locate(redis, [U]) == [(A,)]


async def test_thousands_of_users_are_entered_located_and_left(redis: Redis) -> None:
    await opened(redis, A)
    users = [os.urandom(16) for _ in range(2500)]
    await enter(redis, A, users)
    assert await locate(redis, users) == [(A,)] * 2500
    for start in range(0, 2499, directory.AT_ONCE):
        await leave(redis, A, users[start : min(start + directory.AT_ONCE, 2499)])
    assert await redis.call("HLEN", DIRECTORY[0]) == 1
    assert await locate(redis, []) == []


async def test_dead_node_is_removed_by_the_next_beat_and_its_stream_goes_with_its_lease(redis: Redis) -> None:
    inboxes = {node: await opened(redis, node) for node in (A, B, C)}
    await end_lease(redis, B)
    found = await beat(redis, A, inboxes[A].position)
    assert found.nodes == {A, C}
    for node in (A, B, C):
        assert 0 < await redis.call("PTTL", stream_of(redis, node), bus=redis.bus_of(node)) <= directory.LEASE_S * 1000
    assert (await beat(redis, C, inboxes[C].position)).nodes == {A, C}


async def test_lease_ends_by_itself(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = await opened(redis, A)
    monkeypatch.setattr(directory, "LEASE_S", 0.1)
    await opened(redis, B)

    async def removed() -> bool:
        return (await beat(redis, A, inbox.position)).nodes == {A}

    await wait_until(removed, "the silent node is removed")


async def test_dead_node_is_dropped_from_an_entry_by_the_next_node_that_enters(redis: Redis) -> None:
    inboxes = {node: await opened(redis, node) for node in (A, B)}
    await enter(redis, B, [U, V])
    await end_lease(redis, B)
    await beat(redis, A, inboxes[A].position)
    assert await locate(redis, [U]) == [(B,)]  # stale until then; writes to that node vanish
    await enter(redis, A, [U])
    assert await locate(redis, [U, V]) == [(A,), (B,)]


async def test_node_that_beats_again_after_its_lease_is_told(redis: Redis) -> None:
    """It was frozen: other nodes may have taken it out of the directory."""
    inbox = await opened(redis, A)
    assert (await beat(redis, A, inbox.position)).new_on == frozenset()
    await end_lease(redis, A)
    found = await beat(redis, A, inbox.position)
    assert (found.nodes, found.new_on) == ({A}, {redis.bus_of(A)})


async def test_node_that_was_removed_notices_by_its_next_beat(redis: Redis) -> None:
    inboxes = {node: await opened(redis, node) for node in (A, B)}
    await end_lease(redis, A)
    await beat(redis, B, inboxes[B].position)
    assert (await beat(redis, A, inboxes[A].position)).new_on == {redis.bus_of(A)}


async def test_flushall_is_noticed_by_the_next_beat(redis: Redis) -> None:
    inbox = await opened(redis, A)
    await redis.call("FLUSHALL")
    found = await beat(redis, A, inbox.position)
    assert found.first is None
    assert found.nodes == {A}
    await inbox.open()
    assert (await beat(redis, A, inbox.position)).first == inbox.position


async def test_flushall_is_noticed_although_another_node_has_written_since(redis: Redis) -> None:
    """Only its owner creates a stream, so a write does not bring back a flushed one."""
    inbox = await opened(redis, A)
    await redis.call("FLUSHALL")
    assert await publish(redis, [(A, b"lost")]) == []
    assert (await beat(redis, A, inbox.position)).first is None


async def test_publishing_to_a_node_that_is_gone_leaves_nothing_behind(redis: Redis) -> None:
    await opened(redis, A)
    await opened(redis, B)
    await sign_off(redis, B)
    assert await publish(redis, [(B, b"entry"), (C, b"entry"), (A, b"entry")]) == []
    assert await redis.call("KEYS", "alo:*:bus:*") == [stream_of(redis, A)]
    assert await left_in_good_order(redis, B)
    assert not await left_in_good_order(redis, C)


async def test_publishing_nothing_is_nothing(redis: Redis) -> None:
    """A node that knows no others has to tell none of them about missed pushes."""
    assert await publish(redis, []) == []


async def test_entries_arrive_once_and_in_order(redis: Redis) -> None:
    reader = InboxFollower(await opened(redis, A))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow)
        for start in range(0, 600, 50):
            await publish(redis, [(A, b"%d" % n) for n in range(start, start + 50)])
        assert await reader.wait_for(600) == [b"%d" % n for n in range(600)]
        nursery.cancel_scope.cancel()


async def test_following_goes_on_where_it_was_broken_off(redis: Redis) -> None:
    reader = InboxFollower(await opened(redis, A))
    for turn in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.follow)
            await publish(redis, [(A, b"%d" % turn)])
            await reader.wait_for(turn * 2 + 1)
            nursery.cancel_scope.cancel()
        await publish(redis, [(A, b"between %d" % turn)])
    assert reader.got[:4] == [b"0", b"between 0", b"1", b"between 1"]


async def test_follower_that_is_blocked_while_redis_is_flushed_reads_on_in_the_new_stream(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its read waits for entries after a position that the new stream may never reach: it must ask again."""
    monkeypatch.setattr(bus, "BLOCK_MS", 100)
    inbox = await opened(redis, A)
    reader = InboxFollower(inbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow)
        await publish(redis, [(A, b"before")])
        await reader.wait_for(1)
        inbox.position = (inbox.position[0] + 3_600_000, 0)  # Redis' clock has been set back by an hour

        async def waits() -> bool:
            return b"blocked_clients:1" in await redis.call("INFO", "clients")

        await wait_until(waits, "the follower is blocked")
        await redis.call("FLUSHALL")
        assert (await beat(redis, A, inbox.position)).first is None
        await inbox.open()
        await publish(redis, [(A, b"after")])
        assert await reader.wait_for(2) == [b"before", b"after"]
        nursery.cancel_scope.cancel()


async def test_stream_stays_bounded_and_its_owner_notices_what_was_cut_off(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "MAX_ENTRIES", 500)
    inbox = await opened(redis, A)
    await publish(redis, [(A, b"entry")] * 400)
    found = await beat(redis, A, inbox.position)
    assert found.first == inbox.position  # behind, but nothing is missing
    for _ in range(5):
        await publish(redis, [(A, b"entry")] * 400)
    assert await redis.call("XLEN", stream_of(redis, A)) < 700
    found = await beat(redis, A, inbox.position)
    assert found.first is not None
    assert found.first > inbox.position


async def test_beat_drops_what_has_been_read_and_keeps_the_sign_that_nothing_was_lost(redis: Redis) -> None:
    inbox = await opened(redis, A)
    reader = InboxFollower(inbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow)
        await publish(redis, [(A, b"entry")] * 300)
        await reader.wait_for(300)
        nursery.cancel_scope.cancel()
    await publish(redis, [(A, b"unread")] * 2)
    for _ in range(2):
        found = await beat(redis, A, inbox.position)
        assert found.first is not None
        assert found.first <= inbox.position
        assert await redis.call("XLEN", stream_of(redis, A)) == 3


async def test_entry_that_redis_refuses_is_told_by_its_node(redis: Redis) -> None:
    """As with a full memory: the others' entries are written, and the one concerned has to catch up."""
    await opened(redis, A)
    await opened(redis, B)
    await redis.call("DEL", stream_of(redis, B))
    await redis.call("SET", stream_of(redis, B), "not a stream")
    assert await publish(redis, [(A, b"entry"), (B, b"entry"), (A, b"entry")]) == [B]
    assert await redis.call("XLEN", stream_of(redis, A)) == 3

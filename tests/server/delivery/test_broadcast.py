"""One call pushes to the devices here and to those on other nodes; without a hub only the fan-out sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio

from server.delivery.broadcast import Broadcast
from server.delivery.fanout import Fanout
from server.delivery.hub import Hub
from store.redis.bus import Inbox, stream_of
from store.redis.client import Redis
from store.redis.directory import beat, enter, enter_watchers
from store.redis.entries import AddressedPush, PresenceRecheck, decode_entry
from tests.server.delivery.test_hub import HubClient
from tests.server.sockets import Ends

HERE, THERE = b"node-aaa", b"node-bbb"
ALICE, BOB = b"a" * 16, b"b" * 16
CHAT = b"t" * 16
FIRST, SECOND = AddressedPush(CHAT, 1, b"<1>", (ALICE, BOB)), AddressedPush(CHAT, 2, b"<2>", (BOB, ALICE))


class Nodes:
    """Alice and Bob have a device on this node, and Bob has one on another."""

    def __init__(self, redis: Redis, closing: ExitStack) -> None:
        self.redis = redis
        self.fanout = Fanout(redis, HERE, lambda: False)
        self.hub = Hub()
        self.alice, self.bob = HubClient(ALICE, Ends(None)), HubClient(BOB, Ends(None))
        for device in (self.alice, self.bob):
            closing.callback(device.ends.close)
            self.hub.add(device)

    async def there(self) -> list[list[object]]:
        """The entries that the other node received."""
        await self.fanout.wait_idle()
        found = await self.redis.call("XRANGE", stream_of(self.redis, THERE), "-", "+")
        return [list(decode_entry(fields[1])) for _, fields in found if fields[0] == b"d"]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def nodes(redis_url: str, nursery: trio.Nursery, closing: ExitStack) -> Nodes:
    redis = Redis(redis_url)
    await nursery.start(redis.run)
    await redis.wait_connected()
    inbox = Inbox(redis, THERE)
    await inbox.open()
    await beat(redis, THERE, inbox.position)
    await enter(redis, THERE, [BOB])
    made = Nodes(redis, closing)
    nursery.start_soon(made.fanout.run)
    return made


async def test_a_batch_is_one_system_call_for_each_connection_and_one_entry_for_each_node(nodes: Nodes) -> None:
    broadcast = Broadcast(nodes.fanout, nodes.hub)
    broadcast.push(FIRST)
    broadcast.push(SECOND)
    assert (nodes.alice.messages(), nodes.bob.messages()) == ([], [])
    broadcast.flush()
    assert (nodes.alice.messages(), nodes.bob.messages()) == ([b"<1><2>"], [b"<1><2>"])
    assert (nodes.alice.ends.sock.sends, nodes.bob.ends.sock.sends) == (1, 1)
    assert await nodes.there() == [[FIRST._replace(users=[BOB]), SECOND._replace(users=[BOB])]]


async def test_without_a_hub_the_other_nodes_get_the_same(nodes: Nodes) -> None:
    broadcast = Broadcast(nodes.fanout)
    broadcast.push(FIRST)
    broadcast.flush()
    assert await nodes.there() == [[FIRST._replace(users=[BOB])]]
    assert (nodes.alice.messages(), nodes.bob.messages()) == ([], [])


async def test_a_push_from_another_node_stays_here(nodes: Nodes) -> None:
    """If this node sent the push on, it would circle among the nodes for ever."""
    broadcast = Broadcast(nodes.fanout, nodes.hub)
    broadcast.push_here(FIRST)
    broadcast.flush()
    assert (nodes.alice.messages(), nodes.bob.messages()) == ([b"<1>"], [b"<1>"])
    assert await nodes.there() == []


async def test_the_nodes_that_watch_a_user_are_asked_to_check_their_watchers_again(nodes: Nodes) -> None:
    await enter_watchers(nodes.redis, THERE, [BOB])
    Broadcast(nodes.fanout).recheck_watchers([ALICE, BOB])
    assert await nodes.there() == [[PresenceRecheck([BOB])]]


async def test_a_change_that_cannot_be_pushed_has_the_other_nodes_catch_up(nodes: Nodes) -> None:
    committed_at = trio.current_time() - 20.0
    Broadcast(nodes.fanout).miss("a change was committed that could not be told", since=committed_at)
    assert nodes.fanout.missed_since == committed_at

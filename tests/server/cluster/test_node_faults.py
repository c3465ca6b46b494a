"""A node among others, after a pause or before it leaves: it knows which changes it or the others have missed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing

import server.cluster.catch_up
import server.cluster.node
import server.delivery.fanout
import server.gateway.process
from client.connection import connect
from client.http import Credentials
from protocol.frames import Push
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.redis.bus import Position, stream_of
from store.redis.client import Redis
from store.redis.directory import LEASE_S, NODES, Beat, locate
from tests.people import new_direct, new_user
from tests.server.node_world import TestNode, open_node
from tests.waiting import let_pass, wait_until


async def wait_settled(node: TestNode) -> None:
    """Wait for the node's first catch-up, which would push anything. Start several nodes one after the other."""
    await node.wait_event("caught_up")


async def test_a_node_that_was_paused_while_its_heartbeat_was_answered_knows_how_long_it_was_away(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the answer lies in the kernel when the process is stopped, and describes the time before the pause.

    The test adds a smaller margin to each gap, so that a pause of three seconds does for a minute. The margin is not
    zero: the message is written a moment after the heartbeat, and looked up a moment after the gap is measured.
    """
    monkeypatch.setattr(server.cluster.catch_up, "MARGIN_S", 1.0)
    real, is_paused, resumed = server.cluster.node.beat, False, trio.Event()
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    pushes: list[Push] = []

    async def on_push(push: Push) -> None:
        pushes.append(push)

    async with AsyncExitStack() as stack:
        paused = await stack.enter_async_context(open_node(pool.url, redis_url))
        await wait_settled(paused)
        here = await stack.enter_async_context(open_node(pool.url, redis_url))
        await wait_settled(here)
        node = paused.gateway.node

        async def beat(redis: Redis, id_: bytes, position: Position) -> Beat:
            nonlocal is_paused
            found = await real(redis, id_, position)
            if id_ == node.id and not resumed.is_set():
                is_paused = True
                await resumed.wait()
            return found

        async with connect(here.url, alice.token) as sender, connect(paused.url, bob.token, on_push=on_push):
            monkeypatch.setattr(server.cluster.node, "beat", beat)
            await wait_until(lambda: is_paused, "a heartbeat is under way")
            # As the next node that beats does when the lease has ended.
            other = here.gateway.redis
            await other.spread([(bus, ("ZREM", NODES[bus], node.id)) for bus in range(other.buses)])
            await other.call("DEL", stream_of(other, node.id), bus=node.bus)
            await sender.send(conversation, b"x", temp_id=uuid4().bytes)
            await let_pass(3, why="the heartbeat is late")
            assert pushes == []
            resumed.set()
            await wait_until(lambda: pushes, "what came during the pause", timeout_s=LEASE_S + 15)


async def test_a_node_that_goes_with_something_untold_does_not_say_that_it_left_in_good_order(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the node stops between a failed fan-out and the heartbeat that would tell the others of it."""
    pushes: list[Push] = []

    async def on_push(push: Push) -> None:
        pushes.append(push)

    # Otherwise the lease would end while the node waits for its clients, and that alone has the others catch up.
    monkeypatch.setattr(server.gateway.process, "MOVE_S", 0.1)
    real = server.cluster.node.beat

    async def refuse(*_: Any) -> list[bytes]:
        raise Unavailable("Redis", "nowhere", "cut")

    async with open_node(pool.url, redis_url) as there, connect(there.url, bob.token, on_push=on_push):
        await wait_settled(there)
        async with open_node(pool.url, redis_url) as leaving:
            await wait_settled(leaving)
            is_held = trio.Event()

            async def beat(redis: Redis, id_: bytes, position: Position) -> Beat:
                if id_ == leaving.gateway.node.id:
                    is_held.set()
                    await trio.sleep_forever()
                return await real(redis, id_, position)

            monkeypatch.setattr(server.cluster.node, "beat", beat)
            await is_held.wait()
            async with connect(leaving.url, alice.token) as sender:
                with monkeypatch.context() as cut:
                    cut.setattr(server.delivery.fanout, "publish", refuse)
                    await sender.send(direct, b"x", temp_id=uuid4().bytes)
                    await wait_until(lambda: leaving.gateway.node.has_untold, "the fan-out fails")
                leaving.gateway.stop()
                await sender.wait_lost()
            await wait_until(lambda: {"event": "stopped", "log_level": "info"} in leaving.logs, "it has ended")
        await wait_until(lambda: pushes, "pushes of the change that the node had not pushed", timeout_s=LEASE_S + 5)


async def test_a_user_who_comes_back_while_departures_are_written_stays_in_the_directory(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A herd leaves, in batches; a user of a later batch returns while the first is written."""
    monkeypatch.setattr(server.cluster.node, "AT_ONCE", 1)
    real, left = server.cluster.node.leave, list[bytes]()
    is_writing, is_back = trio.Event(), trio.Event()

    async def leave(redis: Redis, id_: bytes, users: Sequence[bytes]) -> None:
        left.extend(users)
        is_writing.set()
        await is_back.wait()
        await real(redis, id_, users)

    async with open_node(pool.url, redis_url) as there:
        await wait_settled(there)
        monkeypatch.setattr(server.cluster.node, "leave", leave)
        there.gateway.node.depart(alice.user)
        there.gateway.node.depart(bob.user)
        await is_writing.wait()
        [other] = [each for each in (alice, bob) if each.user not in left]
        async with connect(there.url, other.token):
            is_back.set()
            await trio.testing.wait_all_tasks_blocked(0.05)  # the watch of statements wakes ten times a second
            assert await locate(there.gateway.redis, [other.user]) == [(there.gateway.node.id,)]

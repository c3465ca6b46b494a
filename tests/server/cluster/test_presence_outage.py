"""Presence while Redis is gone: no user appears offline only because the node could not ask Redis."""

from __future__ import annotations

import pytest
import trio

import server.cluster.node
from client.http import Credentials
from embedded.redis import RedisServer
from protocol.frames import Done, Presence, Watch
from server.cluster import presence
from store.postgres.pool import Pool
from store.redis.bus import Position
from store.redis.client import Redis
from store.redis.directory import Beat
from tests.faults import flush_redis
from tests.people import new_direct
from tests.server.node_world import open_node
from tests.waiting import let_pass, wait_until

GRACE_S = 1.0


async def test_the_grace_does_not_run_while_redis_is_gone(
    pool: Pool, own_redis: RedisServer, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis forgets all, and is gone for longer than the grace before the other node has entered its users again.

    The fault: the absence was noticed before the outage, so that it seemed to have lasted long enough after it.
    """
    monkeypatch.setattr(presence, "GRACE_S", GRACE_S)
    monkeypatch.setattr(presence, "POLL_S", 0.1)
    await new_direct(pool, alice, bob)
    async with (
        open_node(pool.url, own_redis.url) as here,
        open_node(pool.url, own_redis.url) as there,
        here.open_websocket(alice.token) as watcher,
        there.open_websocket(bob.token),
    ):
        node = there.gateway.node
        await wait_until(lambda: node.id in here.gateway.node.live_nodes(), "the nodes know of each other")
        await watcher.send(Watch(1, [bob.user]))
        assert await watcher.read(2) == [Presence(bob.user, True), Done(1)]
        watching = here.gateway.node.presence
        real, may_come_back = server.cluster.node.beat, trio.Event()

        async def beat(redis: Redis, id_: bytes, position: Position) -> Beat:
            if id_ == node.id:
                await may_come_back.wait()
            return await real(redis, id_, position)

        monkeypatch.setattr(server.cluster.node, "beat", beat)
        flush_redis(own_redis.url)
        await wait_until(lambda: watching.statistics().absent, "the absence is noticed")
        await trio.to_thread.run_sync(own_redis.kill)
        await wait_until(lambda: not here.gateway.redis.is_connected, "the outage is noticed")
        await wait_until(lambda: not watching.statistics().absent, "the grace is to begin anew")
        await let_pass(GRACE_S, why="Redis is gone for the whole grace")
        await trio.to_thread.run_sync(own_redis.start)
        await wait_until(lambda: here.gateway.redis.is_connected, "Redis is back")
        await wait_until(lambda: watching.statistics().absent, "the absence is noticed again")
        await watcher.nothing_came()
        may_come_back.set()
        await wait_until(lambda: not watching.statistics().absent, "bob is found again")
        await watcher.nothing_came()

"""Presence while Redis is gone: no user appears offline only because the node could not ask Redis."""

from __future__ import annotations

import pytest
import trio

from embedded.redis import Redis
from protocol.frames import Done, Presence, Watch
from server.cluster import presence
from store.postgres.pool import Pool
from tests.faults import flush_redis
from tests.people import new_direct, new_user
from tests.server.node_world import open_node, wait_for

GRACE_S = 1.0


async def test_the_grace_does_not_run_while_redis_is_gone(
    pool: Pool, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis forgets all, and is gone for longer than the grace before the other node has entered its users again.

    The fault: the absence was noticed before the outage, so that it seemed to have lasted long enough after it.
    """
    monkeypatch.setattr(presence, "GRACE_S", GRACE_S)
    monkeypatch.setattr(presence, "POLL_S", 0.1)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    await new_direct(pool, alice, bob)
    async with (
        open_node(pool.url, own_redis.url) as here,
        open_node(pool.url, own_redis.url) as there,
        here.open_websocket(alice.token) as watcher,
        there.open_websocket(bob.token),
    ):
        node = there.gateway._node
        await wait_for(lambda: node.id in here.gateway._node.live_nodes(), what="the nodes know of each other")
        await watcher.send(Watch(1, [bob.user]))
        assert await watcher.read(2) == [Presence(bob.user, True), Done(1)]
        watched = here.gateway._node.presence._watched[bob.user]
        real, may_come_back = node._rebuild, trio.Event()

        async def rebuild() -> None:
            await may_come_back.wait()
            await real()

        monkeypatch.setattr(node, "_rebuild", rebuild)
        flush_redis(own_redis.url)
        await wait_for(lambda: watched.absent_since is not None, what="the absence is noticed")
        await trio.to_thread.run_sync(own_redis.kill)
        await wait_for(lambda: not here.gateway._redis.is_connected, what="the outage is noticed")
        await trio.sleep(GRACE_S)
        await trio.to_thread.run_sync(own_redis.start)
        await wait_for(lambda: here.gateway._redis.is_connected, what="Redis is back")
        polled = trio.Event()
        real_settle = here.gateway._node.presence._settle

        def settle(states: dict[bytes, bool]) -> object:
            result = real_settle(states)
            if bob.user in states:
                polled.set()
            return result

        monkeypatch.setattr(here.gateway._node.presence, "_settle", settle)
        with trio.fail_after(5):
            await polled.wait()
        assert watched.is_online, "bob was said to be offline"
        may_come_back.set()
        await wait_for(lambda: watched.absent_since is None, what="bob is found again")
        assert watched.is_online

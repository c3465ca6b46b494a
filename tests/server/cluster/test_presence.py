"""Presence across nodes: a user that is connected to any node is online for watchers on any node."""

from __future__ import annotations

import pytest

from client.http import Credentials
from protocol.frames import Done, Presence, Watch
from server.cluster import presence
from store.postgres.pool import Pool
from store.redis.directory import LEASE_S
from tests.people import new_direct
from tests.server.node_world import RawClient, open_node
from tests.waiting import PATIENCE_S, wait_until


async def told(client: RawClient, patience_s: float = PATIENCE_S) -> bool:
    [push] = await client.read(1, patience_s=patience_s)
    assert isinstance(push, Presence), push
    return push.is_online


async def test_a_user_on_another_node_is_online_from_the_first_device_to_the_last(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers are told at once: the next poll is half a minute away here."""
    monkeypatch.setattr(presence, "GRACE_S", 0.3)
    monkeypatch.setattr(presence, "POLL_S", 30.0)
    await new_direct(pool, alice, bob)
    async with (
        open_node(pool.url, redis_url) as here,
        open_node(pool.url, redis_url) as there,
        here.open_websocket(alice.token) as watcher,
    ):
        node = there.gateway.node.id
        await wait_until(lambda: node in here.gateway.node.live_nodes(), "the nodes know of each other")
        await watcher.send(Watch(1, [bob.user]))
        assert await watcher.read(2) == [Presence(bob.user, False), Done(1)]
        async with there.open_websocket(bob.token):
            assert await told(watcher) is True
            async with there.open_websocket(bob.token), here.open_websocket(bob.token):
                pass
        assert await told(watcher) is False
        async with here.open_websocket(bob.token):
            assert await told(watcher) is True


async def test_a_user_whose_node_has_died_is_offline_when_its_lease_has_ended(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node sent a hint; the poll finds it out."""
    monkeypatch.setattr(presence, "GRACE_S", 0.3)
    monkeypatch.setattr(presence, "POLL_S", 0.2)
    await new_direct(pool, alice, bob)
    async with open_node(pool.url, redis_url) as here, here.open_websocket(alice.token) as watcher:
        async with open_node(pool.url, redis_url) as there, there.open_websocket(bob.token):
            await watcher.send(Watch(1, [bob.user]))
            frames = await watcher.read(2)
            if frames == [Presence(bob.user, False), Done(1)]:  # before the nodes knew of each other
                assert await told(watcher) is True
            # As a killed process: it gives no further sign of life, and does not sign off.
            monkeypatch.setattr(there.gateway.node, "depart", lambda _: None)
        assert await told(watcher, LEASE_S + 10) is False

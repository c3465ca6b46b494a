"""Connections and the garbage collector: a node of 10,000 connections must not stop for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from client.http import Credentials
from server.gateway import process
from server.gateway.connection import Connection
from server.transport.outbox import Outbox
from store.postgres.pool import Pool
from tests.server.node_world import open_node
from tests.waiting import wait_until


@pytest.fixture
def no_collector() -> Iterator[None]:
    """From here on reference counts alone free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def seen_by_collector() -> int:
    """Connections, and their outboxes, that a full collection would look at."""
    return sum(type(each) in (Connection, Outbox) for each in gc.get_objects())


async def test_an_ended_connection_is_freed_without_the_collector(
    pool: Pool, redis_url: str, alice: Credentials, no_collector: None
) -> None:
    async with open_node(pool.url, redis_url) as node:
        before = seen_by_collector()
        async with node.open_synced(alice, alice, alice), node.open_websocket() as stranger:
            assert seen_by_collector() >= before + 8
            stranger.reset()
        await wait_until(lambda: not node.gateway.connections, "all have ended")
        # A service may still hold the one that it has looked at last.
        await wait_until(lambda: seen_by_collector() <= before + 2, "they are freed")


async def test_a_connection_that_stays_is_no_business_of_the_collector(
    pool: Pool,
    redis_url: str,
    alice: Credentials,
    bob: Credentials,
    no_collector: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "STAYING_AT_ONCE", 2)
    async with open_node(pool.url, redis_url) as node:
        before = seen_by_collector()
        async with node.open_websocket(alice.token), node.open_websocket(bob.token):
            await wait_until(lambda: seen_by_collector() == before, "both are off its lists")
        await wait_until(lambda: not node.gateway.connections, "both have ended")
        gc.unfreeze()
        # A service may still hold the one that it has looked at last.
        await wait_until(lambda: seen_by_collector() <= before + 2, "they are freed all the same")

"""A node that is full: of connections without a hello, or of users."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from protocol.frames import Hello
from protocol.limits import PROTOCOL_VERSION
from runtime.config import Config
from server.gateway import process
from server.transport import room
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.node_world import RawClient, TestNode, open_node, undisturbed
from tests.waiting import wait_until

MOST = 16
FOR_USERS = 12
CHECK = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node has room for `MOST` connections, and waits for none longer than a moment."""
    monkeypatch.setattr(process, "room_for_connections", lambda: MOST + Config().database_pool)
    monkeypatch.setattr(room, "PATIENCE_S", 0.2)


async def health(node: TestNode) -> bytes:
    """The answer to a health check; it is repeated after a reset, as by those that check."""
    with trio.fail_after(5):
        while True:
            async with node.open_raw() as client:
                try:
                    await client.write(CHECK)
                    if answer := await client.stream.receive_some():
                        return bytes(answer)
                except trio.BrokenResourceError:
                    continue


async def refused_or_welcomed(client: RawClient, token: str) -> int | None:
    """The close code of a refused hello; None if it is accepted."""
    await client.send(Hello(0, token, PROTOCOL_VERSION))
    while not client.unread:
        if not await client.receive():
            return client.close_code
    return None


async def test_a_node_full_of_users_refuses_the_next_and_answers_its_load_balancer(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, AsyncExitStack() as stack:
        alice = await new_user(pool, "alice")
        for _ in range(FOR_USERS - 1):
            await stack.enter_async_context(node.open_websocket(alice.token))
        async with node.open_websocket(alice.token):
            for _ in range(3):
                async with node.open_websocket() as refused:
                    assert await refused_or_welcomed(refused, alice.token) == 4002
                assert b"200 OK" in await health(node)

        async def is_welcomed() -> bool:
            async with node.open_websocket() as client:
                return await refused_or_welcomed(client, alice.token) is None

        await wait_until(is_welcomed, "the place of one that has gone is given to another")


async def test_users_are_not_disturbed_by_connections_without_a_hello(pool: Pool, redis_url: str) -> None:
    """These take all the room that is left, and give way to each other, the oldest first."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(node.open_raw()) for _ in range(3 * MOST)]
        for _ in range(3):
            assert b"200 OK" in await health(node)
            async with node.open_websocket(somebody.token):
                pass
        for client in silent[:MOST]:
            assert await client.wait_end() is None

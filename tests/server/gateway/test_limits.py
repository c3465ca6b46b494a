"""Limits for one user or one address: refusals name the limit and its value, and other clients do not notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from client.http import Credentials
from protocol import limits
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import Conversations, Error, Hello, List, Sync, Synced
from server.gateway import process
from server.gateway.budgets import LOOK_UPS_AT_ONCE
from store.postgres.pool import Pool
from tests.server.node_world import RawClient, TestNode, open_node
from tests.waiting import let_pass, wait_until


def admitted(node: TestNode) -> int:
    """Connections that are being admitted."""
    [number] = [sample.value for sample in node.gateway.samples() if sample.name == "alo_admissions"]
    return int(number)


async def ends_with(node: TestNode, token: str) -> tuple[int | None, str | None]:
    async with node.open_websocket() as client:
        await client.send(Hello(0, token, 1))
        return await client.wait_end(), client.close_reason


async def test_a_user_has_so_many_connections_and_another_once_one_has_gone(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_USER_CONNECTIONS", 2)
    async with open_node(pool.url, redis_url) as node:
        async with node.open_websocket(alice.token), node.open_websocket(alice.token):
            code, reason = await ends_with(node, alice.token)
            assert code == CloseCode.TOO_MANY_CONNECTIONS.value
            assert reason is not None
            assert "connections_per_user" in reason
            async with node.open_websocket(bob.token):
                pass
        await wait_until(lambda: node.gateway.hub.count(alice.user) == 0, "they have gone")
        async with node.open_websocket(alice.token):
            pass


async def test_an_address_has_so_many_connections_and_another_once_one_has_gone(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_node(pool.url, redis_url, max_address_connections=2) as node:
        async with node.open_websocket(alice.token), node.open_websocket():
            async with node.open_raw() as refused:
                await refused.handshake()
                assert refused.status == 429
            assert len(node.gateway.connections) <= 3
        await wait_until(lambda: not node.gateway.connections, "they have gone")
        async with node.open_websocket(alice.token):
            pass


async def test_behind_a_trusted_proxy_the_address_is_the_clients_own(pool: Pool, redis_url: str) -> None:
    async with (
        open_node(pool.url, redis_url, max_address_connections=1, trusted_proxies="127.0.0.1") as node,
        behind_proxy(node, "192.0.2.1") as one,
        behind_proxy(node, "192.0.2.2") as other,
        behind_proxy(node, "192.0.2.1") as refused,
    ):
        assert [each.status for each in (one, other, refused)] == [101, 101, 429]


@asynccontextmanager
async def behind_proxy(node: TestNode, address: str) -> AsyncGenerator[RawClient, None]:
    """A client that a load balancer announces with a PROXY header."""
    async with node.open_raw() as client:
        await client.write(f"PROXY TCP4 {address} 127.0.0.1 5555 8001\r\n".encode())
        await client.handshake()
        yield client


async def test_requests_beyond_the_budget_are_refused_with_the_limit_its_value_and_when_to_retry(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget is one for all connections of a user; a client that waits for the given time is served."""
    cost = limits.COST_OF_REQUEST + limits.COST_OF_LOOK_UP
    monkeypatch.setattr(limits, "COST_OF_CONNECTION", 0)
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 2 * cost)
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", 10 * cost)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as client,
        node.open_websocket(alice.token) as same,
        node.open_websocket(bob.token) as other,
    ):
        await client.send(*[List(n, None, 1) for n in range(12)])
        replies = await client.read(12)
        [*_, error] = [reply for reply in replies if isinstance(reply, Error)]
        assert len(replies) == 12
        assert (error.code, error.limit) == (ErrorCode.RATE_LIMITED.value, "cost_per_user")
        assert error.limit_value == {each.name: each.value for each in limits.NAMED}["cost_per_user"]
        assert error.retry_after_ms is not None
        assert 0 < error.retry_after_ms <= 1000
        connection, _ = node.gateway.hub.of(alice.user)
        connection.budget.charge(trio.current_time(), 3 * cost)  # type: ignore[attr-defined]
        await other.send(List(1, None, 1))
        [reply] = await other.read(1)
        assert isinstance(reply, Conversations)
        await same.send(List(1, None, 1))
        [error] = await same.read(1)
        assert isinstance(error, Error)
        assert error.retry_after_ms is not None
        await let_pass(error.retry_after_ms / 1000, why="the client waits for as long as it was told to")
        await client.send(List(1, None, 1))
        [reply] = await client.read(1)
        assert isinstance(reply, Conversations)


async def test_a_client_that_never_syncs_keeps_no_others_from_connecting(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ADMISSION_S", 60.0)
    monkeypatch.setattr(process, "MAX_ADMITTED_AT_ONCE", 1)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token):
        with trio.fail_after(5):
            async with node.open_websocket(bob.token):
                pass


async def test_a_user_whose_syncs_are_stuck_keeps_no_others_from_connecting(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are admitted again while their first syncs are answered: at most two of them."""
    monkeypatch.setattr(process, "ADMISSION_S", 60.0)
    monkeypatch.setattr(process, "MAX_ADMITTED_AT_ONCE", LOOK_UPS_AT_ONCE + 1)
    async with open_node(pool.url, redis_url) as node, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(node.open_websocket(alice.token)) for _ in range(LOOK_UPS_AT_ONCE + 1)
        ]
        async with pool.connection() as stuck:
            await stuck.query("begin")
            await stuck.query("lock table participants in access exclusive mode")
            for client in clients:
                await client.send(Sync(1, None))
            await wait_until(lambda: admitted(node) == LOOK_UPS_AT_ONCE, "no more of them are answered at once")
            with trio.fail_after(5):
                await stack.enter_async_context(node.open_websocket(bob.token))
            assert admitted(node) == LOOK_UPS_AT_ONCE
            await stuck.query("rollback")
        for client in clients:
            await client.find(Synced)
        assert admitted(node) == 0


async def test_an_address_has_so_many_connections_without_a_good_token(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of users do not count, however many come."""
    monkeypatch.setattr(process, "UNWELCOMED_AT_ONCE", 3)
    monkeypatch.setattr(process, "UNWELCOMED_PER_S", 1e-3)
    async with open_node(pool.url, redis_url, max_address_connections=2) as node:
        for _ in range(10):
            async with node.open_websocket(alice.token):
                pass
            await wait_until(lambda: not node.gateway.connections, "it has gone")
        for n in range(5):
            assert (await ends_with(node, "wrong"))[0] == CloseCode.UNAUTHENTICATED.value, n
            await wait_until(lambda: not node.gateway.connections, "it has gone")
        async with node.open_raw() as refused:
            await refused.handshake()
            assert refused.status == 429

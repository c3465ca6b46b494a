"""Tokens on a live connection: they expire, are refreshed, and are void once their device is revoked or
their user is suspended, on every node."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import Error, Hello, Refresh, Refreshed, Send, Sent, Welcome
from server.gateway import revocations
from store.devices import EndedDevice, revoke_device
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import set_suspended
from store.tokens import device_by_token
from tests.people import new_device, new_user
from tests.server.node_world import RawClient, TestNode, open_node
from tests.store.test_tokens import end_overlap


async def refuses(node: TestNode, token: str) -> int | None:
    async with node.open_websocket() as client:
        await client.send(Hello(0, token, 1))
        return await client.wait_end()


async def refreshed(client: RawClient, token: str) -> Refreshed:
    await client.send(Refresh(7, token))
    [reply] = await client.read(1)
    assert isinstance(reply, Refreshed), reply
    return reply


async def test_welcome_says_until_when_the_token_is_good(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket() as client:
        await client.send(Hello(0, alice.token, 1))
        [welcome] = await client.read(1)
        assert isinstance(welcome, Welcome)
        assert welcome.expires == (await device_by_token(pool, alice.token)).expires


async def test_a_connection_ends_when_its_token_expires_and_not_before(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    short = await new_device(pool, alice.user, lifetime_s=1.5)
    async with open_node(pool.url, redis_url) as node:
        async with node.open_websocket(short.token) as client, node.open_websocket(alice.token) as other:
            began = trio.current_time()
            assert await client.wait_end() == CloseCode.TOKEN_EXPIRED.value
            assert 0.5 < trio.current_time() - began < 3
            await refreshed(other, alice.token)
        assert await refuses(node, short.token) == CloseCode.TOKEN_EXPIRED.value
        assert await refuses(node, "x") == CloseCode.UNAUTHENTICATED.value


async def test_a_refresh_keeps_the_connection_and_its_requests_going(
    pool: Pool, redis_url: str, alice: Credentials, direct: bytes
) -> None:
    """The other connection of the device was not told of it, and ends at the time that it was told."""
    short = await new_device(pool, alice.user, lifetime_s=2.0)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(short.token) as client,
        node.open_websocket(short.token) as told_before,
    ):
        fresh = await refreshed(client, short.token)
        assert fresh.expires == (await device_by_token(pool, fresh.token)).expires
        assert await told_before.wait_end() == CloseCode.TOKEN_EXPIRED.value
        async with node.open_websocket(fresh.token) as again:
            for each in (client, again):
                await each.send(Send(1, direct, "text", b"x", None, None, uuid4().bytes))
                while not any(isinstance(frame, Sent) for frame in await each.read(1)):
                    pass


async def test_a_token_that_is_shown_after_its_end_ends_all_connections_of_its_device(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as two,
        one.open_websocket(alice.token) as owner,
        one.open_websocket(other.token) as stays,
    ):
        fresh = await refreshed(owner, alice.token)
        async with two.open_websocket(fresh.token) as there:
            async with one.open_websocket(alice.token) as in_flight:
                await refreshed(in_flight, fresh.token)
                await in_flight.send(Refresh(9, alice.token))
                [late] = await in_flight.read(1)
                assert isinstance(late, Error)
                assert late.code == ErrorCode.TOKEN_RENEWED.value
            await end_overlap(pool)
            assert await refuses(two, alice.token) == CloseCode.TOKEN_REUSED.value
            for client in (owner, there):
                assert await client.wait_end() == CloseCode.TOKEN_REUSED.value
        assert await refuses(one, fresh.token) == CloseCode.TOKEN_REUSED.value
        await refreshed(stays, other.token)


async def test_a_refresh_with_a_token_that_has_ended_says_so_and_ends_the_connection(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        await device_by_token(pool, (await refreshed(client, alice.token)).token)
        await end_overlap(pool)
        await client.send(Refresh(9, alice.token))
        [error] = await client.read(1)
        assert isinstance(error, Error)
        assert (error.code, error.retry_after_ms) == (ErrorCode.TOKEN_REUSED.value, None)
        assert await client.wait_end() == CloseCode.TOKEN_REUSED.value


async def test_a_refresh_with_a_token_that_is_not_the_devices_is_refused_and_ends_nothing(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        for token in ("x", other.token):
            await client.send(Refresh(3, token))
            [error] = await client.read(1)
            assert isinstance(error, Error)
            assert (error.request, error.code) == (3, ErrorCode.UNAUTHENTICATED.value)
        await refreshed(client, alice.token)


@pytest.fixture
async def devices(pool: Pool) -> list[Credentials]:
    alice = await new_user(pool, "alice")
    return [alice, await new_device(pool, alice.user)]


async def test_a_revoked_device_is_cut_off_on_every_node_within_a_second(
    pool: Pool, redis_url: str, devices: list[Credentials]
) -> None:
    kept, revoked = devices
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as other,
        one.open_websocket(revoked.token) as here,
        other.open_websocket(revoked.token) as there,
        one.open_websocket(kept.token) as stays,
    ):
        await revoke_device(pool, revoked.user, revoked.device)
        began = trio.current_time()
        for client in (here, there):
            assert await client.wait_end() == CloseCode.DEVICE_REVOKED.value
        assert trio.current_time() - began < 1.0
        for node in (one, other):
            assert await refuses(node, revoked.token) == CloseCode.DEVICE_REVOKED.value
        await refreshed(stays, kept.token)


async def test_a_device_that_is_revoked_while_postgres_cannot_be_asked_is_cut_off_afterwards(
    pool: Pool, redis_url: str, devices: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node depends on no event: it asks Postgres about all of the time since its last answer."""
    _, revoked = devices
    async with open_node(pool.url, redis_url) as node, node.open_websocket(revoked.token) as client:
        asked = trio.Event()
        real = revocations.ended_since

        async def unreachable(*_: object, **__: object) -> list[EndedDevice]:
            asked.set()
            raise Unavailable("Postgres", "here", "no answer")

        monkeypatch.setattr(revocations, "ended_since", unreachable)
        await revoke_device(pool, revoked.user, revoked.device)
        await asked.wait()
        monkeypatch.setattr(revocations, "ended_since", real)
        assert await client.wait_end() == CloseCode.DEVICE_REVOKED.value


async def test_a_suspended_user_is_cut_off_on_every_node_within_a_second_and_comes_back_with_the_same_token(
    pool: Pool, redis_url: str, devices: list[Credentials], bob: Credentials
) -> None:
    source = Source("operator", operator="ops")
    phone, tablet = devices
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as other,
        one.open_websocket(phone.token) as here,
        other.open_websocket(tablet.token) as there,
        one.open_websocket(bob.token) as stays,
    ):
        await set_suspended(pool, phone.user, is_suspended=True, source=source)
        began = trio.current_time()
        for client in (here, there):
            assert await client.wait_end() == CloseCode.ACCOUNT_SUSPENDED.value
        assert trio.current_time() - began < 1.0
        for node in (one, other):
            for device in devices:
                assert await refuses(node, device.token) == CloseCode.ACCOUNT_SUSPENDED.value
        await stays.nothing_came()
        await set_suspended(pool, phone.user, is_suspended=False, source=source)
        async with other.open_websocket(phone.token) as again:
            await again.nothing_came()


async def test_a_renewal_of_a_suspended_user_is_refused_without_a_word_of_logging_in(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is told `unauthenticated` may throw its token away."""
    monkeypatch.setattr(revocations, "POLL_S", 3600.0)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        await set_suspended(pool, alice.user, is_suspended=True, source=Source("operator"))
        await client.send(Refresh(3, alice.token))
        [error] = await client.read(1)
        assert isinstance(error, Error)
        assert (error.code, error.retry_after_ms) == (ErrorCode.ACCOUNT_SUSPENDED.value, None)

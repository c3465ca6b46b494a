"""Tokens on a live connection: they expire, are refreshed, and are void once their device is revoked, on every node."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import Error, Hello, Refresh, Refreshed, Send, Sent, Welcome
from server.gateway import revocations
from store.devices import revoke_device
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.tokens import device_by_token
from tests.people import new_device, new_user
from tests.server.node_world import RawClient, TestNode, open_node


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
    short = await new_device(pool, alice.user, lifetime_s=2.0)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(short.token) as client:
        fresh = await refreshed(client, short.token)
        assert fresh.expires == (await device_by_token(pool, fresh.token)).expires
        expires = (await device_by_token(pool, short.token)).expires
        async with node.open_websocket(fresh.token) as again, node.open_websocket(short.token) as former:
            assert await former.wait_end() == CloseCode.TOKEN_EXPIRED.value
            assert (await device_by_token(pool, fresh.token)).now >= expires
            for each in (client, again):
                await each.send(Send(1, direct, "text", b"x", None, None, uuid4().bytes))
                while not any(isinstance(frame, Sent) for frame in await each.read(1)):
                    pass


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
        real = revocations.revoked_since

        async def unreachable(*_: object, **__: object) -> list[tuple[bytes, bytes]]:
            asked.set()
            raise Unavailable("Postgres", "here", "no answer")

        monkeypatch.setattr(revocations, "revoked_since", unreachable)
        await revoke_device(pool, revoked.user, revoked.device)
        await asked.wait()
        monkeypatch.setattr(revocations, "revoked_since", real)
        assert await client.wait_end() == CloseCode.DEVICE_REVOKED.value


async def good_of(node: TestNode, tokens: dict[str, str]) -> set[str]:
    """The names of the tokens that open a connection; hello and refresh must both refuse the others as unknown."""
    good = set()
    for name, token in tokens.items():
        async with node.open_websocket() as client:
            await client.send(Hello(0, token, 1))
            try:
                await client.find(Welcome)
            except AssertionError:
                assert await client.wait_end() == CloseCode.UNAUTHENTICATED.value
            else:
                good.add(name)
    return good


REFRESHES = [
    ("", {"a"}),
    ("a", {"a", "b"}),
    ("a a", {"a", "c"}),
    ("a b", {"b", "c"}),
    ("a b b", {"b", "d"}),
    ("a b c", {"c", "d"}),
    ("a b b d", {"d", "e"}),
]
"""The tokens that a device refreshes with, in turn; each refresh returns the next letter -> the valid tokens."""


@pytest.mark.parametrize(("refreshes", "good"), REFRESHES)
async def test_a_device_has_the_token_that_it_was_given_last_and_the_one_before(
    pool: Pool, redis_url: str, alice: Credentials, refreshes: str, good: set[str]
) -> None:
    tokens = {"a": alice.token}
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        for used in refreshes.split():
            tokens["abcde"[len(tokens)]] = (await refreshed(client, tokens[used])).token
        assert await good_of(node, tokens) == good
        for name in tokens.keys() - good:
            await client.send(Refresh(3, tokens[name]))
            [error] = await client.read(1)
            assert isinstance(error, Error)
            assert error.code == ErrorCode.UNAUTHENTICATED.value
        # The connection that the first token opened goes on, even if that token is void, and takes any valid token.
        for name in sorted(good)[-1:]:
            await refreshed(client, tokens[name])


async def test_a_refresh_that_is_repeated_does_not_lengthen_the_day_of_the_former_token(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        await refreshed(client, alice.token)
        first = (await device_by_token(pool, alice.token)).expires
        await refreshed(client, alice.token)
        assert (await device_by_token(pool, alice.token)).expires == first


async def test_a_connection_whose_token_is_voided_lasts_until_the_time_that_it_was_told(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    short = await new_device(pool, alice.user, lifetime_s=2.0)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(short.token) as told_before,
        node.open_websocket(short.token) as refreshes,
    ):
        second = await refreshed(refreshes, short.token)
        await refreshed(refreshes, second.token)
        assert await refuses(node, short.token) == CloseCode.UNAUTHENTICATED.value
        await told_before.nothing_came()
        assert await told_before.wait_end() == CloseCode.TOKEN_EXPIRED.value
        await refreshes.nothing_came()

"""Client and server tell each other their versions, names, features and limits in hello and welcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.http import Credentials
from protocol import features, limits
from protocol.frames import Error, Hello, Welcome
from server.gateway.clients import MAX_NAMES, OTHER, UNNAMED, ClientCounts
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import each_row
from tests.server.node_world import open_node
from tests.waiting import wait_until

VERSIONS = {0: None, 1: 1, 2: 1, 65535: 1}
"""The client's greatest version -> the version that the connection uses; None: closed with 4503."""


async def test_a_newer_client_is_served_with_the_server_s_version_and_an_older_one_is_refused(
    pool: Pool, redis_url: str
) -> None:
    assert (limits.OLDEST_VERSION, limits.PROTOCOL_VERSION) == (1, 1), "VERSIONS has to say something else"
    alice = await new_user(pool, "alice")
    used: dict[int, int | None] = {}
    async with open_node(pool.url, redis_url) as node:
        for version in VERSIONS:
            async with node.open_websocket() as client:
                await client.send(Hello(3, alice.token, version))
                if VERSIONS[version] is None:
                    assert await client.wait_end() == 4503
                    assert client.close_reason == "the client speaks version 0; this server serves 1 and later"
                    used[version] = None
                else:
                    used[version] = (await client.find(Welcome)).version
                    await client.nothing_came()
    assert used == VERSIONS


async def test_a_welcome_says_what_the_server_can_do_and_allows(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_node(pool.url, redis_url, max_address_connections=77) as node, node.open_websocket() as client:
        await client.send(Hello(3, alice.token, 1))
        welcome = await client.find(Welcome)
    assert welcome.features == sorted(set(features.FEATURES) - {"attachments", "avatars", "public_avatars"}), (
        "no object store"
    )
    assert welcome.limits == sorted(welcome.limits or [])
    told = dict(welcome.limits or [])
    assert told["content_bytes"] == limits.MAX_CONTENT_BYTES
    assert told["requests_in_flight"] == limits.MAX_IN_FLIGHT
    assert told["connections_per_address"] == 77, "the operator has set another number"
    assert told.keys() == {limit.name for limit in (*limits.NAMED, *limits.SIZES)}


@pytest.mark.parametrize("mode", ["encrypted", "public"])
async def test_a_welcome_says_what_avatars_may_be(
    pool: Pool, redis_url: str, alice: Credentials, tmp_path: Path, mode: str
) -> None:
    settings = {"object_store_url": f"file://{tmp_path}", "avatars": mode, "max_avatar_bytes": 1000}
    async with open_node(pool.url, redis_url, **settings) as node, node.open_websocket() as client:
        await client.send(Hello(3, alice.token, 1))
        welcome = await client.find(Welcome)
    told = {*(welcome.features or ())}
    assert {"attachments", "avatars"} <= told
    assert ("public_avatars" in told) == (mode == "public")
    assert dict(welcome.limits or [])["avatar_bytes"] == 1000


async def test_open_connections_are_counted_by_the_names_of_their_clients(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_node(pool.url, redis_url) as node:

        def counted() -> dict[str, int]:
            return node.gateway.statistics().clients

        async with node.open_websocket() as one, node.open_websocket() as two, node.open_websocket() as silent:
            for client, name in ((one, "app/1.0"), (two, "app/1.0"), (silent, None)):
                await client.send(Hello(0, alice.token, 1, client=name))
                await client.find(Welcome)
            assert counted() == {"app/1.0": 2, UNNAMED: 1}
            async with node.open_websocket() as stranger:
                await stranger.send(Hello(0, "x", 1, client="stranger/1"))
                await stranger.wait_end()
            assert counted() == {"app/1.0": 2, UNNAMED: 1}, "a client that is not welcomed is not counted"
        await wait_until(lambda: counted() == {}, "no client is left")
    names = [line["client"] for line in node.logs if line["event"] == "welcomed"]
    assert names == ["app/1.0", "app/1.0", None]


@each_row("name", ["", "a" * 65, "two words", "line\nbreak", "\x1b[2J", "accént"])
async def test_a_name_that_would_not_fit_into_a_log_is_refused(
    pool: Pool, redis_url: str, alice: Credentials, name: str
) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket() as client:
        await client.send(Hello(3, alice.token, 1, client=name))
        [error] = await client.read(1)
        assert isinstance(error, Error)
        assert (error.request, error.code) == (3, "invalid_frame")
        assert "client (key 105) must be a text of 1 to 64 visible ASCII characters" in error.detail


def entered(clients: ClientCounts, *names: str | None) -> list[str]:
    return [clients.enter(name) for name in names]


def test_names_are_counted_apart_up_to_a_bound_and_then_together() -> None:
    clients = ClientCounts(most=2)
    assert entered(clients, "a/1", "b/1", "c/1", "a/1", "d/1", None) == ["a/1", "b/1", OTHER, "a/1", OTHER, UNNAMED]
    assert clients.statistics() == {"a/1": 2, "b/1": 1, OTHER: 2, UNNAMED: 1}


def test_a_client_name_without_connections_makes_room() -> None:
    clients = ClientCounts(most=1)
    first, second, third = entered(clients, "a/1", "b/1", "b/1")
    clients.leave(first)
    assert clients.enter("b/1") == "b/1"
    for counted in (second, third, "b/1"):
        clients.leave(counted)
    assert clients.statistics() == {}


def test_any_number_of_names_makes_a_bounded_number_of_figures() -> None:
    clients = ClientCounts()
    names: list[Any] = [f"made-up/{n}" for n in range(10 * MAX_NAMES)]
    entered(clients, *names)
    assert len(clients.statistics()) == MAX_NAMES + 1

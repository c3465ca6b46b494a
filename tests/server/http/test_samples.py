"""The figures of `web` are those of what was done: connections, bodies, and waits for turns."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
import trio.testing

from server.http.samples import web_samples
from server.http.services import Services
from store.distribution import Distribution
from store.postgres.pool import Pool
from tests.server.http.socket_world import HttpServer, request, serving_api
from tests.server.http_world import open_services
from tests.waiting import wait_until

HEALTH = request("GET", "/healthz")
LOGIN = b'{"username": "nobody", "password": "wrong horse battery", "name": "phone"}'


class Figures:
    """The figures of a server that runs."""

    def __init__(self, services: Services, server: HttpServer) -> None:
        self._services, self._server = services, server

    def of(self, name: str) -> dict[str, float | Distribution]:
        """Last label -> value of a metric; an empty text for one without labels."""
        samples = web_samples(self._services, self._server.connections)
        return {"".join(each.labels[-1:]): each.value for each in samples if each.name == name}

    def lengths(self, name: str, label: str = "") -> tuple[int, float]:
        """How many values a distribution has, and their sum."""
        found = self.of(name)[label]
        assert isinstance(found, Distribution)
        return found.count, found.sum


@asynccontextmanager
async def measured(
    pool: Pool, redis_url: str, **limits: int
) -> AsyncGenerator[tuple[HttpServer, Services, Figures], None]:
    async with open_services(pool, redis_url) as services, serving_api(services, **limits) as server:
        yield server, services, Figures(services, server)


async def test_connections_count_by_what_they_do(pool: Pool, redis_url: str) -> None:
    async with measured(pool, redis_url, max_address_connections=2) as (server, _, figures):
        async with server.connected() as idle, server.connected() as busy, server.connected() as refused:
            await idle.send(HEALTH)
            assert (await idle.answer()).status == 200
            await busy.send(request("POST", "/v1/devices", {"content-length": f"{len(LOGIN)}"}, LOGIN[:9]))
            await wait_until(lambda: figures.of("alo_http_connections")["in_use"] == 1, "a request waits for its body")
            assert (await refused.answer()).status == 429
            assert await refused.closed() == b""
            await wait_until(
                lambda: figures.of("alo_http_connections") == {"waiting": 1, "in_use": 1}, "one is gone again"
            )
            assert figures.of("alo_http_connections_accepted_total") == {"": 3}
            assert figures.of("alo_http_connections_refused_total") == {"": 1}
        await wait_until(
            lambda: figures.of("alo_http_connections") == {"waiting": 0, "in_use": 0}, "all clients have hung up"
        )
        assert figures.of("alo_http_connections_expired_total") == {"": 0}


async def test_bodies_are_measured_as_they_come_and_go(pool: Pool, redis_url: str) -> None:
    async with measured(pool, redis_url) as (server, _, figures):
        health = await server.exchange(HEALTH)
        assert figures.lengths("alo_http_request_bytes") == (0, 0), "a plain read has no body"
        head = {"content-type": "application/json", "content-length": f"{len(LOGIN)}"}
        refused = await server.exchange(request("POST", "/v1/devices", head, LOGIN))
        assert refused.status == 401
        assert figures.lengths("alo_http_request_bytes") == (1, len(LOGIN))
        assert figures.lengths("alo_http_answer_bytes", "identity") == (2, len(health.body) + len(refused.body))


async def test_waits_for_turns_are_measured_by_the_source_that_waits(pool: Pool, redis_url: str) -> None:
    async with measured(pool, redis_url) as (_, services, figures):
        of_requests = {**services.request_turns.by_source(), "large_bodies": services.large_bodies}
        for of_now, of_waits, by_source in (
            ("alo_http_requests_waiting", "alo_http_turn_wait_seconds", of_requests),
            ("alo_password_hashes_waiting", "alo_password_hash_wait_seconds", services.passwords.by_source()),
        ):
            for source, turns in by_source.items():
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(turns.begin, "a crowd")
                    await trio.testing.wait_all_tasks_blocked()
                    waiting = turns.statistics().waiting
                    assert waiting > 0
                    assert figures.of(of_now) == {each: waiting if each == source else 0 for each in by_source}
                    for _ in range(3):
                        turns.end("a crowd")
                assert figures.lengths(of_waits, source)[0] == waiting, "a turn that is there at once is no wait"

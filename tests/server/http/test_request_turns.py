"""Requests run in turn: users apart from strangers, and few of each source at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from server.http import request_turns
from server.http.exchange import Reply
from server.http.problem_codes import ProblemCode
from server.http.request_classes import RequestClass
from server.http.request_turns import RUNNING, RUNNING_EACH, RUNNING_STRANGERS, UNTURNED, WAIT_S, RequestTurns, Turn
from server.http.routes import ROUTES
from server.transport.proxies import NO_PROXIES, TrustedProxies
from store.postgres.pool import Pool
from tests.server.http.socket_world import open_server, request, serving, serving_api, shrink_buffers
from tests.server.http_world import open_services

USERS = {f"token{n}": bytes([n]) * 16 for n in range(200)}


def bearer(number: int) -> dict[str, str]:
    return {"authorization": f"Bearer token{number}"}


class Requests:
    """Requests that begin as soon as they may.

    :ivar begun: the turns that have come, by request.
    :ivar refused: the requests whose turn did not come.
    """

    def __init__(self, nursery: trio.Nursery, proxies: TrustedProxies = NO_PROXIES) -> None:
        self._nursery = nursery
        self._turns = RequestTurns(USERS.get, proxies)
        self.begun: dict[str, Turn] = {}
        self.refused: list[str] = []

    async def ask(self, name: str, peer: str, headers: dict[str, str], path: str = "/other") -> bool:
        """Whether the request begins at once."""

        async def one() -> None:
            turn = await self._turns.begin(peer, headers, path)
            if turn is None:
                self.refused.append(name)
            else:
                self.begun[name] = turn

        self._nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        return name in self.begun


async def test_a_user_with_many_requests_delays_no_other_user() -> None:
    async with trio.open_nursery() as nursery:
        some = Requests(nursery)
        assert [await some.ask(f"a{n}", "192.0.2.1", bearer(1)) for n in range(50)].count(True) == RUNNING_EACH
        assert await some.ask("b", "192.0.2.1", bearer(2)), "though the address is the same"
        for _ in range(2):
            some.begun["a0"].end()
        await trio.testing.wait_all_tasks_blocked()
        assert len(some.begun) == RUNNING_EACH + 2, "a turn ends once, however often that is said"
        nursery.cancel_scope.cancel()


async def test_strangers_with_many_addresses_delay_no_user_and_no_crowd_of_users_delays_strangers() -> None:
    """A token that is not known to be good makes nobody a user."""
    async with trio.open_nursery() as nursery:
        some = Requests(nursery)
        wrong = {"authorization": "Bearer wrong"}
        at_once = [await some.ask(f"s{n}", f"192.0.2.{n}", wrong if n % 2 else {}) for n in range(60)]
        assert at_once.count(True) == RUNNING_STRANGERS
        assert [await some.ask(f"u{n}", "192.0.2.1", bearer(n)) for n in range(60)].count(True) == RUNNING
        nursery.cancel_scope.cancel()


async def test_the_source_of_a_stranger_is_the_address_that_a_trusted_proxy_names() -> None:
    async with trio.open_nursery() as nursery:
        some = Requests(nursery, TrustedProxies.parse("10.0.0.1"))
        first = [await some.ask(f"a{n}", "10.0.0.1", {"x-forwarded-for": "2001:db8::1"}) for n in range(9)]
        assert first.count(True) == RUNNING_EACH
        assert not await some.ask("same network", "10.0.0.1", {"x-forwarded-for": "2001:db8::2"})
        assert await some.ask("b", "10.0.0.1", {"x-forwarded-for": "192.0.2.1"})
        assert not await some.ask("forged", "2001:db8::3", {"x-forwarded-for": "192.0.2.2"})
        nursery.cancel_scope.cancel()


async def test_a_request_for_the_health_of_the_process_waits_for_no_turn() -> None:
    """A load balancer asks from an address that strangers may share, as behind a proxy that is not trusted."""
    assert {route.path for route in ROUTES if route.request_class is RequestClass.HEALTH} == UNTURNED
    async with trio.open_nursery() as nursery:
        some = Requests(nursery)
        for n in range(RUNNING_STRANGERS * 2):
            await some.ask(f"s{n}", "192.0.2.1", {})
        assert not await some.ask("other", "192.0.2.1", {})
        for path in UNTURNED:
            assert await some.ask(path, "192.0.2.1", {}, path)
            some.begun[path].end()
        assert "other" not in some.begun, "the end of a request without a turn is the end of no turn"
        nursery.cancel_scope.cancel()


async def test_a_request_whose_turn_does_not_come_is_told_so(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        some = Requests(nursery)
        for n in range(RUNNING_EACH + 1):
            await some.ask(f"a{n}", "192.0.2.1", bearer(1))
        mock_clock.jump(WAIT_S)
        await trio.testing.wait_all_tasks_blocked()
        assert some.refused == [f"a{RUNNING_EACH}"]


class Held:
    """An application and a thin path (`/plain`) that answer when the test lets them."""

    def __init__(self) -> None:
        self.begun = 0
        self.release = trio.Event()

    def find(self, data: bytes, start: int) -> HeldRead | None:
        return HeldRead(self, start + len(PLAIN)) if data.startswith(PLAIN, start) else None

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise ValueError(f"no application for {scope['type']}")
        await self.wait()
        await send({"type": "http.response.start", "status": 204, "headers": [], "trailers": False})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def wait(self) -> None:
        self.begun += 1
        await self.release.wait()


class HeldRead:
    def __init__(self, held: Held, end: int) -> None:
        self._held = held
        self.end = end
        self.path = "/plain"
        self.headers: dict[str, str] = {}

    async def answer(self, _peer: str) -> Reply:
        await self._held.wait()
        return Reply(204, {}, b"")


PLAIN, OTHER = request("GET", "/plain"), request("GET", "/other")


def refuse(code: ProblemCode, _peer: str) -> Reply:
    return Reply(code.info.status, {}, b"refused")


async def wait_begun(held: Held, number: int) -> None:
    with trio.fail_after(5):
        while held.begun < number:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("data", [PLAIN, OTHER])
async def test_requests_on_both_paths_wait_for_their_turns(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_turns, "WAIT_S", 0.1)
    held = Held()
    async with serving(held, held, refuse) as server, AsyncExitStack() as stack:
        some = [await stack.enter_async_context(server.connected()) for _ in range(RUNNING_EACH + 1)]
        for number, each in enumerate(some[:-1], 1):
            await each.send(data)
            await wait_begun(held, number)
        for refused in (PLAIN, OTHER):
            assert (await server.exchange(refused)).status == 503
        held.release.set()
        for each in some[:-1]:
            assert (await each.answer()).status == 204
        assert (await server.exchange(data)).status == 204


@pytest.mark.parametrize("data", [PLAIN, OTHER])
async def test_a_client_that_is_gone_has_no_turn(data: bytes) -> None:
    held = Held()
    async with serving(held, held, refuse) as server:
        for number in range(1, RUNNING_EACH + 1):
            async with server.connected() as connection:
                await connection.send(OTHER)
                await wait_begun(held, number)
        async with server.connected() as connection:
            await connection.send(data)
            await wait_begun(held, RUNNING_EACH + 1)


@pytest.mark.parametrize("path", ["/healthz", "/healthz?from=balancer", "/readyz", "/readyz?from=balancer"])
async def test_a_process_tells_its_health_while_strangers_have_all_turns(
    path: str, pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_turns, "WAIT_S", 0.1)
    async with open_services(pool, redis_url) as services, serving_api(services) as server:
        for _ in range(RUNNING_EACH):
            assert await services.request_turns.begin("127.0.0.1", {}, "/")
        assert (await server.exchange(request("GET", "/openapi.json"))).status == 503
        assert (await server.exchange(request("GET", path))).status == (400 if "?" in path else 200)


LOGIN = request("POST", "/v1/devices", {"content-type": "application/json", "content-length": "99"})
LIST, REFERENCE = request("GET", "/v1/conversations"), request("GET", "/openapi.json")

WAITING = {
    "for a body": (LOGIN, [], REFERENCE),
    "before a refusal": (LOGIN, [429], REFERENCE),
    "before a refusal on the thin path": (LIST, [429], REFERENCE),
}
"""The requests that wait, the statuses that they wait to be told, and one that is served meanwhile."""


@pytest.mark.parametrize("case", WAITING)
async def test_a_request_has_no_turn_while_it_waits(case: str, pool: Pool, redis_url: str) -> None:
    data, statuses, other = WAITING[case]
    # All limits are one request; an answer that one is reached takes longer than this test.
    settings = {"rate_limit_factor": 1e-9 if statuses else 1000.0, "limited_pause_s": 1000.0}
    async with open_server(pool, redis_url, **settings) as server, AsyncExitStack() as stack:
        for _ in range(1 + 2 * RUNNING_STRANGERS):
            waiting = await stack.enter_async_context(server.connected())
            await waiting.send(data)
            await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(5):
            assert (await server.exchange(other)).status == 200


async def test_an_answer_that_its_client_does_not_read_has_no_turn() -> None:
    class Long(Held):
        async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            if scope["type"] != "http":
                raise ValueError(f"no application for {scope['type']}")
            body = bytes(30_000_000 if scope["path"] == "/long" else 1)
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
            await send({"type": "http.response.body", "body": body, "more_body": False})
            self.begun += 1
            while (await receive())["type"] != "http.disconnect":
                pass

    app = Long()
    async with serving(app, app, refuse) as server, AsyncExitStack() as stack:
        for _ in range(RUNNING_EACH + 1):
            slow = await stack.enter_async_context(server.connected())
            shrink_buffers(slow.stream)
            await slow.send(request("GET", "/long"))
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert app.begun == 0
        with trio.fail_after(5):
            assert (await server.exchange(OTHER)).status == 200

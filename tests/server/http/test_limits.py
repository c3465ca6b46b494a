"""Limits on requests: by address before authentication, by user after it, on both paths, also without Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

from client.http import Credentials
from server.http import limits, passwords
from server.http.app import create_app
from server.http.limits import Limits, RateLimited
from server.http.problem_codes import MAX_HEAD_BYTES
from server.http.request_classes import LIMITS, Allowance, RequestClass
from server.http.services import Services
from server.transport.proxies import TrustedProxies, address_key
from store import tokens
from store.errors import Overloaded, Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.redis.rates import REDIS_S
from tests.people import new_device, new_user
from tests.server.http.socket_world import RawAnswer, RawConnection, open_server, request
from tests.server.http_world import Api, open_services

DAY_S = 86400.0
AWAY = "redis://127.0.0.1:1"
"""The URL of no Redis."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address and user may make three requests of each class, and no more in the time of a test."""
    allowance = Allowance(3, 1 / DAY_S)
    for each, usual in LIMITS.items():
        changed = usual._replace(address=usual.address and allowance, user=usual.user and allowance)
        monkeypatch.setitem(limits.LIMITS, each, changed)


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    """The operator's connection."""
    async with trio.open_nursery() as nursery:
        redis = Redis(redis_url)
        await nursery.start(redis.run)
        await redis.wait_connected()
        yield redis
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def processes(url: str, count: int) -> AsyncGenerator[list[Limits], None]:
    """The limits of several processes that share a Redis."""
    async with trio.open_nursery() as nursery:
        connections = [Redis(url) for _ in range(count)]
        for redis in connections:
            await nursery.start(redis.run)
            if url != AWAY:
                await redis.wait_connected()
        yield [Limits(redis, pause_s=0) for redis in connections]
        nursery.cancel_scope.cancel()


async def admitted(
    process: Limits, times: int, *, address: str = "192.0.2.1", request_class: RequestClass = RequestClass.LOGIN
) -> int:
    """How many of so many requests at the same time are admitted."""
    some, waits = 0, list[float]()

    async def one() -> None:
        nonlocal some
        try:
            await process.count_address(request_class, address)
        except RateLimited as refused:
            waits.append(refused.wait_s)
        else:
            some += 1

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(one)
    assert all(DAY_S - 600 < wait_s <= DAY_S for wait_s in waits)
    return some


EXACT = [each for each, found in LIMITS.items() if found.is_exact and found.address]


@pytest.mark.parametrize("request_class", EXACT)
async def test_all_processes_together_admit_what_one_address_may(redis_url: str, request_class: RequestClass) -> None:
    async with processes(redis_url, 3) as each:
        found = [await admitted(one, 2, request_class=request_class) for one in each]
    assert found == [2, 1, 0]


async def test_the_addresses_of_one_subscriber_count_as_one(redis_url: str) -> None:
    subscriber = ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:DB8:0:1:ffff::", "2001:db8:0:1::4", "2001:db8:0:1::5")
    both = ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201", "192.0.2.1")
    async with processes(redis_url, 1) as [one]:
        for addresses in (subscriber, both):
            found = [await admitted(one, 1, address=some) for some in addresses]
            assert found == [1, 1, 1, 0, 0][: len(addresses)]
        assert await admitted(one, 1, address="2001:db8:0:2::1") == 1


@pytest.mark.parametrize("fault", ["away", "silent"])
async def test_without_redis_each_process_keeps_the_limits_and_refuses_no_others(
    redis_url: str, redis: Redis, fault: str
) -> None:
    url = AWAY if fault == "away" else redis_url
    async with processes(url, 2) as each:
        if fault == "silent":
            await redis.call("CLIENT", "PAUSE", 2000, "ALL")
        found = [await admitted(one, 10) for one in each]
    assert found == [3, 3]


async def test_a_process_that_loses_redis_goes_on_with_its_count(redis_url: str, redis: Redis) -> None:
    async with processes(redis_url, 1) as [one]:
        assert await admitted(one, 2) == 2
        await redis.call("FLUSHALL")
        assert await admitted(one, 5) == 1


async def test_a_request_that_all_processes_together_refuse_does_not_count_for_its_process(
    redis_url: str, redis: Redis
) -> None:
    async with processes(redis_url, 2) as [one, other]:
        assert await admitted(one, 3) == 3
        assert await admitted(other, 9) == 0
        await redis.call("FLUSHALL")
        assert await admitted(other, 9) == 3


@pytest.fixture
async def services(pool: Pool, redis_url: str) -> AsyncGenerator[Services, None]:
    proxies = TrustedProxies.parse("127.0.0.0/8")
    async with open_services(pool, redis_url, rate_limit_factor=1.0, proxies=proxies, ops_token="o" * 16) as services:
        yield services


@pytest.fixture
def api(services: Services) -> Api:
    return Api(create_app(services))


async def statuses(api: Api, method: str, path: str, times: int = 5, **what: object) -> list[int]:
    return [(await api.request(method, path, **what)).status for _ in range(times)]  # type: ignore[arg-type]


async def test_requests_without_a_good_token_have_a_limit_for_each_address(api: Api, alice: Credentials) -> None:
    """Also those that fit no route, and OPTIONS. Tokens that were good are served all the same."""
    good = api.of(alice.token)
    assert await statuses(good, "GET", "/v1/profile", 1) == [200]
    assert await statuses(api.of("wrong"), "GET", "/v1/profile", 1) == [401]
    assert await statuses(api, "GET", "/v1/conversations?limt=1", 1) == [401]
    assert await statuses(api, "GET", "/nothing", 1) == [404]
    for method, path in (("GET", "/v1/devices"), ("GET", "/nothing"), ("PUT", "/v1/users")):
        assert await statuses(api, method, path, 2) == [429] * 2
    for path in ("/v1/users", "*"):
        assert (await api.app.test_client().open(path, method="OPTIONS")).status_code == 429
    assert await statuses(good, "GET", "/v1/profile", 1) == [200]
    assert await statuses(api, "GET", "/v1/profile", 1, headers={"X-Forwarded-For": "192.0.2.9"}) == [429]


WRONG_HEADS = {
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "h2c": (request("GET", "/healthz", {"upgrade": "h2c"}), 400),
    "a WebSocket": (request("GET", "/v1/socket", {"upgrade": "websocket"}), 421),
    "two lengths": (request("PUT", "/", {"content-length": "2", "transfer-encoding": "chunked"}), 400),
    "an unknown encoding": (request("PUT", "/", {"transfer-encoding": "gzip"}), 501),
    "a long line": (request("GET", "/" + "x" * MAX_HEAD_BYTES), 414),
    "a large head": (request("GET", "/", {"x": "y" * MAX_HEAD_BYTES}), 431),
}


@pytest.mark.parametrize("is_proxy", [False, True])
async def test_heads_that_are_refused_count_as_requests_of_strangers(
    pool: Pool, redis_url: str, alice: Credentials, *, is_proxy: bool
) -> None:
    """Unless they come by a proxy, which names no client of a head that cannot be read."""
    proxies = TrustedProxies.parse("127.0.0.0/8" if is_proxy else "")
    async with open_server(pool, redis_url, rate_limit_factor=1.0, proxies=proxies) as server:

        async def ask(data: bytes, address: str) -> int:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port, local_address=address)
            async with stream:
                await stream.send_all(data)
                return (await RawConnection(stream).answer()).status

        good = request("GET", "/v1/profile", {"authorization": f"Bearer {alice.token}"})
        assert await ask(good, "127.0.0.2") == 200
        for number, (head, status) in enumerate(WRONG_HEADS.values(), 2):
            found = [await ask(head, f"127.0.0.{number}") for _ in range(5)]
            assert found == ([status] * 5 if is_proxy else [status] * 3 + [429] * 2), head[:80]
        assert await ask(good, "127.0.0.2") == 200, "a token that was good is served all the same"


async def test_proxies_name_the_address_if_they_are_trusted(api: Api) -> None:
    for forwarded in ("192.0.2.1", "192.0.2.2"):
        headers, scope = {"X-Forwarded-For": forwarded}, {"client": ("127.0.0.1", 1)}
        found = await statuses(api, "GET", "/v1/profile", headers=headers, scope_base=scope)
        assert found == [401, 401, 401, 429, 429]
    forged = {"headers": {"X-Forwarded-For": "192.0.2.8"}, "scope_base": {"client": ("192.0.2.3", 1)}}
    assert await statuses(api, "GET", "/v1/profile", **forged) == [401, 401, 401, 429, 429]
    other = {"headers": {"X-Forwarded-For": "192.0.2.9"}, "scope_base": {"client": ("192.0.2.3", 1)}}
    assert await statuses(api, "GET", "/v1/profile", **other) == [429] * 5


async def test_a_user_has_limits_on_all_devices_together(pool: Pool, api: Api, alice: Credentials) -> None:
    phone, desk = api.of(alice.token), api.of((await new_device(pool, alice.user)).token)
    assert await statuses(phone, "GET", "/v1/profile", 2) == [200, 200]
    assert await statuses(desk, "GET", "/v1/quiet-hours", 2) == [200, 429]
    bob = api.of((await new_user(pool, "bob")).token)
    assert await statuses(bob, "GET", "/v1/profile", 1) == [200], "other users are not limited"
    assert await statuses(phone, "DELETE", "/v1/quiet-hours", 1) == [204], "nor other classes"


async def test_operators_have_a_limit_too(api: Api) -> None:
    path = "/v1/ops/analytics?from=2026-01-01&until=2026-01-01"
    assert await statuses(api.of("o" * 16), "GET", path) == [200] * 3 + [429] * 2


async def test_three_of_60_registrations_of_one_address_are_made(
    pool: Pool, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "HASHER", SimpleNamespace(hash=lambda _: "a hash"))
    found: list[int] = []

    async def register(number: int) -> None:
        answer = await api.post("/v1/users", {"username": f"user{number}", "password": "correct horse"})
        found.append(answer.status)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(register, number)
    assert sorted(found) == [201] * 3 + [429] * 57
    assert await pool.fetch("select count(*) from users where starts_with(username, 'user')") == [(3,)]


@pytest.mark.parametrize("more", [{}, {"content-length": "0"}], ids=["the thin path", "Quart"])
@pytest.mark.parametrize("path", ["/v1/conversations", "/healthz"])
async def test_both_paths_say_when_to_come_again(
    pool: Pool, redis_url: str, alice: Credentials, more: dict[str, str], path: str
) -> None:
    settings = {"rate_limit_factor": 1.0, "cors_origins": ["https://chat.example"]}
    headers = {"authorization": f"Bearer {alice.token}", "origin": "https://chat.example", **more}
    async with open_server(pool, redis_url, **settings) as server, server.connected() as connection:
        answers: list[RawAnswer] = []
        for _ in range(5):
            await connection.send(request("GET", path, headers))
            answers.append(await connection.answer())
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    refused = answers[-1].headers
    assert refused["content-type"] == "application/problem+json"
    assert refused["access-control-allow-origin"] == "https://chat.example"
    assert DAY_S - 600 < int(refused["retry-after"]) <= DAY_S


async def test_an_answer_that_a_limit_is_reached_takes_its_time(services: Services) -> None:
    """So a client that does not wait makes a request in some seconds on each connection, and not thousands."""
    some = Limits(services.redis, pause_s=1000.0)
    for error in (RateLimited(0.001), Overloaded("a queue", 7)):
        assert 500 <= some.pause_s(error) <= 1000
    assert some.pause_s(ValueError()) == 0


async def test_a_request_whose_token_cannot_be_checked_does_not_count(
    api: Api, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Postgres comes back, the users are not refused for what it did."""

    async def fail(*_: object) -> None:
        raise Unavailable("Postgres", "here", "not connected")

    with monkeypatch.context() as away:
        away.setattr(tokens, "device_by_token", fail)
        assert await statuses(api.of(alice.token), "GET", "/v1/profile") == [503] * 5
    assert await statuses(api.of(alice.token), "GET", "/v1/profile", 1) == [200]


async def test_a_token_that_is_good_no_longer_counts_as_a_strangers(pool: Pool, api: Api, alice: Credentials) -> None:
    device = api.of(alice.token)
    assert await statuses(device, "GET", "/v1/profile", 1) == [200]
    await pool.fetch("update devices set revoked = now()")
    assert await statuses(device, "GET", "/v1/profile") == [401] * 4 + [429]


async def test_a_user_over_a_limit_is_refused_before_anything_is_read(
    pool: Pool, api: Api, services: Services, alice: Credentials
) -> None:
    phone = api.of(alice.token)
    assert await statuses(phone, "GET", "/v1/conversations") == [200] * 3 + [429] * 2
    before = pool.reads.statistics().items
    assert await statuses(phone, "GET", "/v1/conversations") == [429] * 5
    assert pool.reads.statistics().items == before


async def test_an_address_that_has_shown_a_good_token_is_familiar(
    api: Api, services: Services, alice: Credentials
) -> None:
    headers, scope = {"X-Forwarded-For": "2001:db8::1"}, {"client": ("127.0.0.1", 1)}
    for some, is_familiar in ((api.of("wrong"), False), (api.of(alice.token), True)):
        await statuses(some, "GET", "/v1/profile", 1, headers=headers, scope_base=scope)
        assert services.limits.is_familiar(address_key("2001:db8::2")) is is_familiar
    assert not services.limits.is_familiar(address_key("127.0.0.1"))


EXACT_FOR_USERS = [each for each, found in LIMITS.items() if found.is_exact and found.user]


@pytest.mark.parametrize("request_class", EXACT_FOR_USERS)
async def test_all_processes_together_admit_what_one_user_may(
    redis_url: str, request_class: RequestClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_admitted(process: Limits) -> bool:
        try:
            await process.count_user(request_class, bytes(16))
        except RateLimited:
            return False
        return True

    async with processes(redis_url, 3) as each:
        assert [await is_admitted(one) for one in [*each, *each]] == [True] * 3 + [False] * 3


def test_the_sum_of_all_processes_counts_but_for_what_a_process_has_to_protect_itself_from() -> None:
    alone = {each.value for each, limits in LIMITS.items() if not limits.is_exact}
    assert alone == {"hot_read", "file", "open", "health", "operator", "unauthenticated"}


async def test_redis_that_hangs_delays_few_requests(redis_url: str, redis: Redis) -> None:
    async with processes(redis_url, 1) as [one]:
        await redis.call("CLIENT", "PAUSE", 2000, "ALL")
        began = trio.current_time()
        for n in range(10):
            assert await admitted(one, 1, address=f"192.0.2.{n}") == 1
        assert trio.current_time() - began < 5 * REDIS_S

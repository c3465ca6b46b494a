"""The client's address of each request, behind proxies too, and the connections that an address may have."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from runtime.line_sample import LineSample
from server.http import hypercorn_seam
from server.http.answer_headers import AnswerHeaders
from server.http.exchange import Reply, exchanged
from server.http.http_counts import HttpCounts
from server.http.limits import Limits
from server.http.origins import Origins
from server.http.problem_codes import ProblemCode
from server.http.request_classes import RequestClass
from server.http.request_log import RequestLog
from server.http.routing import Access, Answer, Request, Route
from server.transport.proxies import TrustedProxies
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.server.http.socket_world import HttpServer, RawConnection, request, serving, serving_api
from tests.server.http_world import open_services
from tests.waiting import wait_until

HERE = "127.0.0.1"
PROXIES = TrustedProxies.parse("127.0.0.1, 10.0.0.0/8")
V1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n"
V1_OF_ANOTHER = b"PROXY TCP4 203.0.113.8 10.0.0.1 4711 443\r\n"
V1_OF_A_PROXY = b"PROXY TCP4 10.0.0.7 10.0.0.1 4711 443\r\n"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\x12\x67\1\xbb"
V2_WITH_TLV = SIGNATURE + b"\x21\x11\0\x11\xcb\0\x71\x09\x0a\0\0\x01\x12\x67\1\xbb\x04\0\x02hi"
V2_LOCAL = SIGNATURE + b"\x20\0\0\0"
V2_IPV6 = SIGNATURE + b"\x21\x21\0\x24" + bytes.fromhex("20010db8" + "0" * 23 + "1") + bytes(16) + b"\x12\x67\1\xbb"

ANNOUNCED = {
    "v1": (V1, "203.0.113.9"),
    "v1, client unknown": (V1_UNKNOWN, HERE),
    "v2": (V2, "203.0.113.9"),
    "v2 with more fields": (V2_WITH_TLV, "203.0.113.9"),
    "v2, a health check": (V2_LOCAL, HERE),
    "v2, IPv6": (V2_IPV6, "2001:db8::1"),
    "none": (b"", HERE),
}
MALFORMED = {
    "v1 without addresses": b"PROXY TCP4 nonsense\r\n",
    "v1 without an end": b"PROXY TCP4 " + b"1" * 200,
    "v2 of another version": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    "v2 that is too long": SIGNATURE + b"\x21\x11\xff\xff",
}


class TellsTheAddress:
    """An application and a thin path (`/plain`) that answer with the address of the connection."""

    def find(self, data: bytes, start: int) -> TellingPlain | None:
        return TellingPlain(start + len(PLAIN)) if data.startswith(PLAIN, start) else None

    async def __call__(self, scope: Scope, _receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert scope["type"] == "http"
        assert scope["client"] is not None
        body = scope["client"][0].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class TellingPlain:
    def __init__(self, end: int) -> None:
        self.end = end
        self.path = "/plain"
        self.headers: dict[str, str] = {}

    async def answer(self, peer: str) -> Reply:
        return Reply(200, {}, f"plain {peer}".encode())


PLAIN, OTHER = request("GET", "/plain"), request("GET", "/other")


def refuse(code: ProblemCode, _peer: str) -> Reply:
    return Reply(code.info.status, {}, b"refused")


@asynccontextmanager
async def telling(**settings: Any) -> AsyncGenerator[HttpServer, None]:
    app = TellsTheAddress()
    async with serving(app, app, refuse, **settings) as server:
        yield server


@pytest.mark.parametrize("piece", [1, 7, 10_000])
@pytest.mark.parametrize("case", ANNOUNCED)
async def test_a_trusted_proxy_names_the_client_of_a_connection(case: str, piece: int) -> None:
    header, address = ANNOUNCED[case]
    async with telling(proxies=PROXIES) as server, server.connected() as connection:
        for at in range(0, len(header), piece):
            await connection.send(header[at : at + piece])
            await trio.testing.wait_all_tasks_blocked()
        await connection.send(PLAIN + OTHER)
        assert (await connection.answer()).body.decode() == f"plain {address}"
        assert (await connection.answer()).body.decode() == address
        await connection.send(PLAIN)
        assert (await connection.answer()).body.decode() == f"plain {address}", "it speaks for the whole connection"


async def test_a_header_and_a_request_may_come_together() -> None:
    async with telling(proxies=PROXIES) as server:
        for data, body in ((V2 + PLAIN, b"plain 203.0.113.9"), (V2 + OTHER, b"203.0.113.9")):
            async with server.connected() as connection:
                await connection.send(data)
                assert (await connection.answer()).body == body


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_header_ends_the_connection_and_is_logged(
    case: str, log_output: list[dict[str, object]]
) -> None:
    async with telling(proxies=PROXIES) as server, server.connected() as connection:
        await connection.send(MALFORMED[case] + OTHER)
        with trio.fail_after(5):
            assert await ended(connection) == b""
    assert [line["event"] for line in log_output if line["log_level"] == "warning"] == ["proxy_header_invalid"]


async def ended(connection: RawConnection) -> bytes:
    """The bytes that come before the end, which may be a reset: the server has not read all that was sent."""
    try:
        return await connection.closed()
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize("case", [*MALFORMED, *(case for case in ANNOUNCED if case != "none")])
async def test_a_header_of_a_peer_that_is_not_trusted_is_refused(case: str) -> None:
    header = MALFORMED[case] if case in MALFORMED else ANNOUNCED[case][0]
    async with telling(proxies=TrustedProxies.parse("192.0.2.1")) as server, server.connected() as connection:
        await connection.send(header + OTHER)
        assert (await connection.answer()).status == 400
        assert await connection.closed() == b""


@pytest.mark.parametrize("data", [b"", b"P", V1[:-1], SIGNATURE, V2[:-1]], ids=repr)
@pytest.mark.parametrize("closes", [False, True])
async def test_a_header_that_does_not_come_ends_the_connection(
    data: bytes, *, closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_seam, "HEAD_S", 60.0 if closes else 0.1)
    async with telling(proxies=PROXIES) as server, server.connected() as connection:
        await connection.send(data)
        if closes:
            await connection.stream.send_eof()
        with trio.fail_after(5):
            assert await connection.closed() == b""


async def shown(peer: str, headers: dict[str, str]) -> str:
    """The address that a handler sees."""

    async def handler(asked: Request[None]) -> Answer:
        return Answer(asked.address)

    async def no_body(_: Any) -> Any:
        raise AssertionError("a read has no body")

    limits = Limits(Redis("redis://127.0.0.1:1"))
    services: Any = SimpleNamespace(
        proxies=PROXIES,
        answer_headers=AnswerHeaders(Origins(())),
        limits=limits,
        counts=HttpCounts(),
        request_log=RequestLog(LineSample("request_answered", 1)),
    )
    exchange = exchanged(Route("GET", "/", Access.OPEN, handler, request_class=RequestClass.OPEN), services, no_body)
    return str(json.loads((await exchange(peer, headers, "", {})).body))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "192.0.2.1", "203.0.113.9"),
        (HERE, None, HERE),
        (HERE, "192.0.2.1", "192.0.2.1"),
        (HERE, "192.0.2.1, 203.0.113.9, 10.0.0.3", "203.0.113.9"),
        (HERE, "192.0.2.1, nonsense", HERE),
        ("::ffff:127.0.0.1", "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_a_handler_sees_the_address_that_trusted_proxies_name(
    peer: str, forwarded_for: str | None, address: str
) -> None:
    assert await shown(peer, {} if forwarded_for is None else {"x-forwarded-for": forwarded_for}) == address


@pytest.mark.parametrize("header", [b"", V1_OF_A_PROXY], ids=["its own", "of a proxy behind it"])
async def test_requests_of_a_proxy_s_connection_are_of_different_clients(header: bytes) -> None:
    """The proxy may have more connections than a client, and none of its clients uses them up."""
    async with telling(proxies=PROXIES, max_address_connections=1) as server, AsyncExitStack() as stack:
        for _ in range(3):
            connection = await stack.enter_async_context(server.connected())
            await connection.send(header + OTHER)
            assert (await connection.answer()).status == 200


HEADERS = {
    "without a proxy": ((), (b"", b"")),
    "behind a proxy": (PROXIES, (V1, V1_OF_ANOTHER)),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_an_address_has_so_many_connections_and_another_once_one_has_gone(
    case: str, pool: Pool, redis_url: str
) -> None:
    proxies, (mine, other) = HEADERS[case]
    async with (
        open_services(pool, redis_url, proxies=proxies or TrustedProxies()) as services,
        serving_api(services, max_address_connections=2) as server,
        server.connected() as first,
    ):
        async with server.connected() as second, server.connected() as refused:
            for connection in (first, second):
                await connection.send(mine + request("GET", "/healthz"))
                assert (await connection.answer()).status == 200
            await refused.send(mine)
            answer = await refused.answer()
            problem = json.loads(answer.body)
            assert (answer.status, problem["code"]) == (429, "too_many_connections")
            assert answer.headers["retry-after"] == "60"
            assert answer.headers["connection"] == "close"
            assert await refused.closed() == b""
            if other:
                async with server.connected() as another:
                    await another.send(other + request("GET", "/healthz"))
                    assert (await another.answer()).status == 200
        await first.send(request("GET", "/healthz"))
        assert (await first.answer()).status == 200

        async def is_served() -> bool:
            async with server.connected() as again:
                await again.send(mine + request("GET", "/healthz"))
                return (await again.answer()).status == 200

        await wait_until(is_served, "the second connection has gone")

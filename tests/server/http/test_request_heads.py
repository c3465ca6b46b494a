"""Heads that h11 takes: those that the application gets, and as what, and those that are refused."""

from __future__ import annotations

import json

import h11
import pytest

from server.http import limits
from server.http.problem_codes import MAX_BODY_BYTES, MAX_HEAD_BYTES, ProblemCode
from server.http.request_classes import LIMITS, Allowance, RequestClass
from server.http.request_heads import accepted_head
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import each_row
from tests.server.http.socket_world import RawConnection, open_server, request


def parsed(data: bytes) -> h11.Request:
    """The request that h11 reads, whatever its length."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found = connection.next_event()
    assert isinstance(found, h11.Request)
    return found


@each_row(
    ("target", "path"),
    [
        *((same, same) for same in ("/healthz", "/healthz?a=/b", "/", "//healthz", "//[", "/%5B")),
        ("http://test/healthz", "/healthz"),
        ("HTTP://test:80/healthz?a=http://b", "/healthz?a=http://b"),
        ("https://[::1]/", "/"),
        ("http://test", "/"),
        ("http://test?a", "/?a"),
        ("http://[/healthz", "/healthz"),
        *((wrong, None) for wrong in ("healthz", "?a", "*", "test:80", "http://", "http:///healthz", "http:%2F%2F[")),
        *((wrong, None) for wrong in ("http://alice@test/", "ftp://test/", "http://test#a", "[")),
    ],
)
def test_the_application_gets_the_path_of_a_target(target: str, path: str | None) -> None:
    head = accepted_head(parsed(request("GET", target)))
    assert (head if isinstance(head, ProblemCode) else head.target.decode()) == (path or ProblemCode.INVALID_REQUEST)


def test_a_target_may_be_the_server_for_options_alone() -> None:
    request_of_server = parsed(request("OPTIONS", "*"))
    assert accepted_head(request_of_server) is request_of_server


@pytest.mark.parametrize(("method", "is_taken"), [("GET", True), ("M-SEARCH", True), ("get", False), ("Get", False)])
def test_a_method_in_small_letters_is_none(method: str, is_taken: bool) -> None:
    assert isinstance(accepted_head(parsed(request(method, "/"))), h11.Request) == is_taken


def test_a_body_has_one_length() -> None:
    twice = {"content-length": "5", "transfer-encoding": "chunked"}
    assert accepted_head(parsed(request("PUT", "/", twice))) is ProblemCode.INVALID_REQUEST


UPGRADES = {
    "h2c": ProblemCode.UPGRADE_REFUSED,
    "H2C": ProblemCode.UPGRADE_REFUSED,
    "HTTP/2.0": ProblemCode.UPGRADE_REFUSED,
    "TLS/1.0": ProblemCode.UPGRADE_REFUSED,
    "TLS/1.0, h2c": ProblemCode.UPGRADE_REFUSED,
    " , h2c": ProblemCode.UPGRADE_REFUSED,
    "no-websocket": ProblemCode.UPGRADE_REFUSED,
    "websocket": ProblemCode.MISDIRECTED_REQUEST,
    "WebSocket": ProblemCode.MISDIRECTED_REQUEST,
    "websocket/13": ProblemCode.MISDIRECTED_REQUEST,
    "h2c ,\tWEBSOCKET": ProblemCode.MISDIRECTED_REQUEST,
    "": None,
    " , ": None,
}
"""Values of `Upgrade` -> the refusal; None: it asks for no protocol."""


@pytest.mark.parametrize(
    "more", [{}, {"connection": "Upgrade, HTTP2-Settings", "http2-settings": "AAMAAABkAAQ"}], ids=str
)
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_request_for_another_protocol_is_refused(upgrade: str, more: dict[str, str]) -> None:
    """Whether `Connection` names the header or not: programs on the way may pass it on."""
    head = accepted_head(parsed(request("GET", "/", {"upgrade": upgrade, **more})))
    assert (None if isinstance(head, h11.Request) else head) is UPGRADES[upgrade]


@pytest.mark.parametrize("values", [("websocket", "h2c"), ("h2c", "websocket"), ("", "websocket")])
def test_all_headers_that_ask_for_protocols_count(values: tuple[str, str]) -> None:
    asked = request("GET", "/", {"upgrade": values[0], "Upgrade": values[1]})
    assert accepted_head(parsed(asked)) is ProblemCode.MISDIRECTED_REQUEST


@each_row("upgrade", UPGRADES)
def test_an_upgrade_in_http_1_0_means_nothing_and_all_else_is_left(upgrade: str) -> None:
    """RFC 9110, section 7.8."""
    head = accepted_head(parsed(b"GET /a HTTP/1.0\r\nhost: test\r\nupgrade: %b\r\nx: y\r\n\r\n" % upgrade.encode()))
    assert isinstance(head, h11.Request)
    assert (head.method, head.target, head.http_version) == (b"GET", b"/a", b"1.0")
    assert list(head.headers) == [(b"host", b"test"), (b"x", b"y")]


def test_a_head_has_so_many_bytes_however_it_comes() -> None:
    longest = "y" * (MAX_HEAD_BYTES - len(request("GET", "/", {"x": ""})))
    assert isinstance(accepted_head(parsed(request("GET", "/", {"x": longest}))), h11.Request)
    assert accepted_head(parsed(request("GET", "/", {"x": longest + "y"}))) is ProblemCode.HEAD_TOO_LARGE
    path = "/" + "p" * (MAX_HEAD_BYTES - len("GET / HTTP/1.1\r\n"))
    full = accepted_head(parsed(request("GET", path)))
    assert full is ProblemCode.HEAD_TOO_LARGE, "its first line leaves no bytes for headers"
    assert accepted_head(parsed(request("GET", path + "p"))) is ProblemCode.URI_TOO_LONG


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (request("GET", "http://[/"), 404, "not_found"),
        (request("GET", "[", {"expect": "100-continue", "content-length": "2"}), 400, "invalid_request"),
        (request("get", "/readyz"), 400, "invalid_request"),
        (
            request("PUT", "/healthz", {"transfer-encoding": "chunked", "content-length": "5"}, b"0\r\n\r\n"),
            *(400, "invalid_request"),
        ),
        (request("GET", "/" + "p" * MAX_HEAD_BYTES), 414, "uri_too_long"),
        (request("GET", "/healthz", {"x": "y" * MAX_HEAD_BYTES}), 431, "head_too_large"),
    ],
    ids=str,
)
async def test_a_refused_head_gets_a_problem_and_nothing_after_it(
    pool: Pool, redis_url: str, data: bytes, status: int, code: str
) -> None:
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        await connection.send(data + request("GET", "/healthz"))
        answer = await connection.answer()
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
        if code != "not_found":
            assert answer.headers["connection"] == "close"
            assert await connection.closed() == b""


BODY = b'{"display_name": "Alice"}'
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HELD_BACK = {"expect": "100-continue"}
SIZED = {**HELD_BACK, "content-length": str(len(BODY))}
TYPED = {**SIZED, "content-type": "application/json"}
CHUNKED = {**HELD_BACK, "content-type": "application/json", "transfer-encoding": "chunked"}


async def read_head(connection: RawConnection) -> bytes:
    """The next head that the server writes, and no byte of what follows it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await connection.stream.receive_some(1)
        assert byte, head
        head += byte
    return head


async def final_answer(connection: RawConnection) -> int:
    """The status of the answer, which is the only one, and after which the server ends the connection."""
    head = await read_head(connection)
    assert b"\r\nconnection: close\r\n" in head
    # A client that has lost its patience sends the body meanwhile.
    await connection.send(BODY)
    assert b"HTTP/1.1" not in await connection.closed()
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("method", "path", "is_known", "headers", "status"),
    [
        ("PATCH", "/v1/profile", False, TYPED, 401),
        ("PATCH", "/v1/profile", False, CHUNKED, 401),
        ("PATCH", "/v1/nothing", True, TYPED, 404),
        ("PUT", "/v1/profile", True, TYPED, 405),
        ("PATCH", "/v1/profile", True, {**TYPED, "content-length": str(MAX_BODY_BYTES + 1)}, 413),
        ("PATCH", "/v1/profile", True, SIZED, 415),
        ("PATCH", "/v1/profile", True, {**CHUNKED, "content-type": "text/plain"}, 415),
        ("PATCH", "/v1/profile", True, {**TYPED, "content-encoding": "gzip"}, 415),
        ("PATCH", "/v1/profile?wrong=1", True, TYPED, 400),
    ],
)
async def test_a_client_that_holds_its_body_back_gets_a_refusal_that_the_head_decides_first(
    pool: Pool, redis_url: str, method: str, path: str, is_known: bool, headers: dict[str, str], status: int
) -> None:
    """RFC 9110, section 10.1.1. Nothing follows: the client may send the body or not, and the server cannot know."""
    shown = {"authorization": f"Bearer {(await new_user(pool, 'alice')).token}"} if is_known else {}
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        await connection.send(request(method, path, {**headers, **shown}))
        assert await final_answer(connection) == status


async def test_a_client_that_holds_its_body_back_gets_the_refusal_of_a_limit_first(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = LIMITS[RequestClass.REGISTRATION]._replace(address=Allowance(1, 1 / 86400))
    monkeypatch.setitem(limits.LIMITS, RequestClass.REGISTRATION, once)
    async with open_server(pool, redis_url, rate_limit_factor=1.0) as server:
        assert (await server.exchange(request("POST", "/v1/users", TYPED, BODY))).status == 400
        async with server.connected() as connection:
            await connection.send(request("POST", "/v1/users", TYPED))
            assert await final_answer(connection) == 429


@pytest.mark.parametrize(("headers", "body"), [(TYPED, BODY), (CHUNKED, CHUNKS)])
async def test_a_client_that_holds_its_body_back_is_told_to_send_it_once_the_head_is_accepted(
    pool: Pool, redis_url: str, headers: dict[str, str], body: bytes
) -> None:
    alice = await new_user(pool, "alice")
    change = request("PATCH", "/v1/profile", {**headers, "authorization": f"Bearer {alice.token}"})
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        for _ in range(2):
            await connection.send(change)
            assert await read_head(connection) == b"HTTP/1.1 100 \r\n\r\n"
            await connection.send(body)
            assert (await connection.answer(b"PATCH")).status == 200
        await connection.send(change + body)
        assert (await read_head(connection)).startswith(b"HTTP/1.1 200"), "the body did not wait"


async def test_a_client_without_a_body_is_not_told_to_send_one(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        for _ in range(2):
            await connection.send(request("GET", "/healthz", HELD_BACK))
            head = await read_head(connection)
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head
            await connection.stream.receive_some()

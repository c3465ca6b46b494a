"""The thin path: it answers what Quart answers, byte for byte, and leaves all that it does not understand to Quart."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import h11
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from server.http.hot_path import HotPath
from server.http.problem_codes import MAX_HEAD_BYTES
from server.http.routes import ROUTES
from server.http.services import Services
from store import conversations
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import each_row
from tests.server.http.socket_world import RawAnswer, request, serving_api
from tests.server.http_world import open_services, say

HOT = {
    "GET /healthz",
    "GET /v1/conversations",
    "GET /v1/conversations/<uuid:conversation>",
    "GET /v1/conversations/<uuid:conversation>/messages",
}


HEALTH_ALONE = HotPath(cast("Services", None), [route for route in ROUTES if route.rule == "GET /healthz"])
"""It needs no services."""


@pytest.fixture
async def services(pool: Pool, redis_url: str) -> AsyncGenerator[Services, None]:
    async with open_services(pool, redis_url) as services:
        yield services


def test_these_routes_are_hot() -> None:
    assert {route.rule for route in ROUTES if route.is_hot} == HOT


async def _connect_all(pool: Pool) -> None:
    """Make all connections of the pool. A page that is read just after a new one has no entity tag, and a device's use,
    which is noted in the background, may take a second connection between two requests that are compared."""
    async with AsyncExitStack() as stack:
        for _ in range(pool.statistics().size):
            await stack.enter_async_context(pool.connection())


@asynccontextmanager
async def both_paths(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Any, None]:
    """A function from a request to its two answers, and the number of requests that the thin path took."""
    taken: list[bool] = []
    find = HotPath.find

    def counting(self: HotPath, data: bytes, start: int) -> Any:
        found = find(self, data, start)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(HotPath, "find", counting)
    await _connect_all(services.pool)
    async with serving_api(services) as server:

        async def ask(data: bytes) -> tuple[RawAnswer, RawAnswer, bool]:
            taken.clear()
            thin = await server.exchange(data)
            was_taken = taken == [True]
            async with server.connected() as connection:
                # A request that comes in two pieces is parsed by h11.
                await connection.send(data[:5])
                await trio.testing.wait_all_tasks_blocked()
                await connection.send(data[5:])
                quart = await connection.answer(data.partition(b" ")[0])
            return thin, quart, was_taken

        yield ask


ACCEPTS = (
    {},
    {"accept": "application/json"},
    {"accept": "application/cbor"},
    {"accept": "*/*"},
    {"accept-encoding": "gzip, br"},
    {"accept-encoding": "zstd", "if-none-match": "*"},
    {"accept-encoding": "identity;q=0, *", "x-no-compression": ""},
)
"""The two types come with all queries, the others with a few: queries are read apart from headers."""
ALL_QUERIES = (
    *("", "limit=1", "limit=2&", "limit=0", "limit=x", "limit=1&limit=2", "requests=true", "requests=maybe"),
    *("", "?", "limit=%32", "limit=+1", "requests=%74rue", "cursor=%ff"),
    *("cursor=abc", "after_seq=1", "after_seq=1&limit=1", "around_seq=2", "after_seq=1&around_seq=1", "x", "x=&y=1"),
)
FEW_QUERIES = ("", "limit=1", "limit=x", "after_seq=1")


@pytest.mark.parametrize("headers", ACCEPTS, ids=str)
async def test_both_paths_give_equal_answers(
    services: Services, monkeypatch: pytest.MonkeyPatch, headers: Mapping[str, str]
) -> None:
    pool = services.pool
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    group = await conversations.add_group(pool, "Gruppe ü", sorted([alice.user, bob.user]), admin=bob.user)
    await say(pool, group, bob.user, b"one", b"two", b"three")
    good = f"Bearer {alice.token}"
    own = f"/v1/conversations/{UUID(bytes=group)}"
    paths = ["/healthz", "/v1/conversations", own, f"{own}/messages"]
    queries = ALL_QUERIES if headers in ACCEPTS[1:3] else FEW_QUERIES
    async with both_paths(services, monkeypatch) as ask:
        for path in paths:
            for query in queries:
                await _compare(ask, path, query, {**headers, "authorization": good})
            for authorization in (good, good.replace("Bearer", "bearer"), "Bearer nonsense", "Basic YTpi", ""):
                await _compare(ask, path, "", {**headers, "authorization": authorization})
            await _compare(ask, path, "", headers)
        for path in (f"/v1/conversations/{uuid4()}", f"/v1/conversations/{str(UUID(bytes=group)).upper()}"):
            for end in ("", "/messages"):
                await _compare(ask, f"{path}{end}", "", {**headers, "authorization": good})


async def _compare(ask: Any, path: str, query: str, headers: Mapping[str, str]) -> None:
    headers = {"x-request-id": "the-same-for-both", **headers}
    thin, quart, was_taken = await ask(request("GET", f"{path}?{query}" if query else path, headers))
    assert was_taken, (path, query)
    dates = thin.headers.pop("date"), quart.headers.pop("date")
    assert all(dates)
    assert thin == quart, (path, query)


NOT_PLAIN = {
    "another method": request("HEAD", "/healthz"),
    "an unknown path": request("GET", "/healthy"),
    "a path that ends otherwise": request("GET", "/healthz/"),
    "an escape in the path": request("GET", "/%68ealthz"),
    "no uuid": request("GET", "/v1/conversations/123"),
    "a body": request("GET", "/healthz", {"content-length": "2"}, b"{}"),
    "an empty body": request("GET", "/healthz", {"content-length": "0"}),
    "a chunked body": request("GET", "/healthz", {"transfer-encoding": "chunked"}, b"0\r\n\r\n"),
    "an upgrade": request("GET", "/healthz", {"connection": "upgrade", "upgrade": "h2c"}),
    "the end of the connection": request("GET", "/healthz", {"connection": "close"}),
    "an expectation": request("GET", "/healthz", {"expect": "100-continue"}),
    "a header twice": request("GET", "/healthz", {"accept": "a", "Accept": "b"}),
    "a folded header": b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\naccept: a\r\n\r\n",
    "no header": b"GET /healthz HTTP/1.1\r\n\r\n",
    "an older version": b"GET /healthz HTTP/1.0\r\nhost: a\r\n\r\n",
    "a newer version": b"GET /healthz HTTP/2.0\r\nhost: a\r\n\r\n",
    "line feeds alone": b"GET /healthz HTTP/1.1\nhost: a\n\n",
    "a control character": b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n",
    "letters beyond ASCII": "GET /healthz HTTP/1.1\r\nhost: a\r\nx: ü\r\n\r\n".encode(),
    "an incomplete head": b"GET /healthz HTTP/1.1\r\nhost: a\r\n",
    "a head that is too long": request("GET", "/healthz", {"x": "y" * 17_000}),
    "an absolute address": b"GET http://test/healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    "a fragment": request("GET", "/healthz#a"),
    "nothing": b"",
}


@each_row("case", NOT_PLAIN)
async def test_quart_gets_all_requests_that_are_not_plain(services: Services, case: str) -> None:
    assert HotPath(services, ROUTES).find(NOT_PLAIN[case], 0) is None


async def test_a_plain_read_ends_where_the_next_request_begins(services: Services) -> None:
    path = HotPath(services, ROUTES)
    data = request("GET", "/healthz", {"User-Agent": " test\t", "X-Empty": ""})
    found = path.find(b"x" + data + data, 1)
    assert found is not None
    assert (found.end, found.path) == (1 + len(data), "/healthz")
    assert found.headers == {"host": "test", "user-agent": "test", "x-empty": ""}


async def test_a_fault_behind_a_hot_read_is_answered(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await new_user(services.pool, "alice")

    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(services.first_pages, "first_of_list", broken)
    async with serving_api(services) as server, server.connected() as connection:
        for path, status in (("/v1/conversations", 500), ("/healthz", 200)):
            await connection.send(request("GET", path, {"authorization": f"Bearer {alice.token}"}))
            assert (await connection.answer()).status == status


@each_row(
    ("data", "status", "code"),
    [
        (b"GET nonsense\r\n\r\n", 400, "invalid_request"),
        (request("GET", "?x"), 400, "invalid_request"),
        (request("GET", "/healthz" + "x" * 70_000), 414, "uri_too_long"),
        (request("GET", "/healthz", {"x": "y" * 70_000}), 431, "head_too_large"),
        (request("PUT", "/v1/email", {"transfer-encoding": "gzip"}), 501, "unknown_transfer_encoding"),
    ],
)
async def test_a_request_that_is_not_http_gets_a_problem(
    services: Services, data: bytes, status: int, code: str
) -> None:
    async with serving_api(services) as server:
        answer = await server.exchange(data)
    body = json.loads(answer.body)
    assert (answer.status, body["status"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert body["instance"] == answer.headers["x-request-id"]


PIECES = (
    *(
        b"GET ",
        b"get ",
        b"HEAD ",
        b" ",
        b"  ",
        b"\t",
        b"/healthz",
        b"/v1/conversations",
        b"?",
        b"limit=1",
        b"%20",
        b"#",
    ),
    *(b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1 ", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"host: a", b"Host:b", b"host :a"),
    *(
        b"accept: */*",
        b"x:",
        b": y",
        b"x: \x7f",
        b"x: \xff",
        b"content-length: 0",
        b"content-length: 2",
        b"connection: ",
    ),
    *(b"keep-alive", b"close", b"transfer-encoding: chunked", b"expect: 100-continue", b"\0", b"a" * 100, b"{}"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.integers(0, 60), st.binary(max_size=2))
@example([b"GET ", b"/healthz", b" HTTP/1.1", b"\r\n", b"host: a", b"\r\n\r\n", b"GET "], 60, b"")
def test_h11_reads_each_request_as_the_thin_path_does(pieces: list[bytes], place: int, noise: bytes) -> None:
    good = b"GET /healthz HTTP/1.1\r\nhost: a\r\naccept: b\r\n\r\n"
    for data in (
        b"".join(pieces),
        good[:place] + noise + good[place:],
        good[:place] + noise + good[place + len(noise) :],
    ):
        found = HEALTH_ALONE.find(data, 0)
        if found is None:
            continue
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        parser.receive_data(data)
        head = parser.next_event()
        assert isinstance(head, h11.Request)
        assert isinstance(parser.next_event(), h11.EndOfMessage)
        target = f"{found.path}?{found.query_string}" if b"?" in data[: found.end].split(b" ")[1] else found.path
        assert (head.method, head.target.decode(), head.http_version) == (b"GET", target, b"1.1")
        assert {name.decode(): value.decode() for name, value in head.headers} == found.headers
        assert parser.trailing_data[0] == data[found.end :]
        parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        parser.send(h11.EndOfMessage())
        assert parser.our_state is h11.DONE  # The connection goes on.

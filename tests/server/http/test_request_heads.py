"""Heads that h11 takes: those that the application gets, and as what, and those that are refused."""

from __future__ import annotations

import json

import h11
import pytest

from server.http.problem_codes import MAX_HEAD_BYTES
from server.http.request_heads import accepted_head
from store.postgres.pool import Pool
from tests.server.http.socket_world import open_server, request


def parsed(data: bytes) -> h11.Request:
    """The request that h11 reads, whatever its length."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found = connection.next_event()
    assert isinstance(found, h11.Request)
    return found


@pytest.mark.parametrize(
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
    assert (head if isinstance(head, int) else head.target.decode()) == (path or 400)


def test_a_target_may_be_the_server_for_options_alone() -> None:
    request_of_server = parsed(request("OPTIONS", "*"))
    assert accepted_head(request_of_server) is request_of_server


@pytest.mark.parametrize(("method", "is_taken"), [("GET", True), ("M-SEARCH", True), ("get", False), ("Get", False)])
def test_a_method_in_small_letters_is_none(method: str, is_taken: bool) -> None:
    assert isinstance(accepted_head(parsed(request(method, "/"))), h11.Request) == is_taken


def test_a_body_has_one_length() -> None:
    assert accepted_head(parsed(request("PUT", "/", {"content-length": "5", "transfer-encoding": "chunked"}))) == 400


def test_an_upgrade_is_ignored_and_all_else_is_left() -> None:
    head = accepted_head(parsed(b"GET /a HTTP/1.0\r\nhost: test\r\nupgrade: h2c\r\nx: y\r\n\r\n"))
    assert isinstance(head, h11.Request)
    assert (head.method, head.target, head.http_version) == (b"GET", b"/a", b"1.0")
    assert list(head.headers) == [(b"host", b"test"), (b"x", b"y")]


def test_a_head_has_so_many_bytes_however_it_comes() -> None:
    longest = "y" * (MAX_HEAD_BYTES - len(request("GET", "/", {"x": ""})))
    assert isinstance(accepted_head(parsed(request("GET", "/", {"x": longest}))), h11.Request)
    assert accepted_head(parsed(request("GET", "/", {"x": longest + "y"}))) == 431
    path = "/" + "p" * (MAX_HEAD_BYTES - len("GET / HTTP/1.1\r\n"))
    assert accepted_head(parsed(request("GET", path))) == 431, "its first line leaves no bytes for headers"
    assert accepted_head(parsed(request("GET", path + "p"))) == 414


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

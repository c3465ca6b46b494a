"""The headers that all answers have: of each route, of errors, and of requests that no route takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from server.http.answers.figures import HealthAnswer
from server.http.encoding import Encoding, encode
from server.http.routes import ROUTES
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import each_row
from tests.server.http.socket_world import HttpServer, RawAnswer, open_server, request
from tests.server.http.test_routes import filled
from tests.server.http_world import WEB_CLIENT

OPS_TOKEN = "the operators' token"
NEW_ID = re.compile("[0-9a-f]{32}").fullmatch
JSON = {"content-type": "application/json"}

OTHERS = {
    "an unknown path": request("GET", "/v1/nothing"),
    "a path with two slashes": request("GET", "/v1//profile"),
    "a wrong method": request("DELETE", "/healthz"),
    "an unknown method": request("BREW", "/healthz"),
    "OPTIONS": request("OPTIONS", "/v1/profile"),
    "a preflight": request(
        "OPTIONS", "/v1/profile", {"origin": "https://a.example", "access-control-request-method": "PUT"}
    ),
    "OPTIONS of the server": request("OPTIONS", "*"),
    "a HEAD": request("HEAD", "/healthz"),
    "a body of a wrong type": request("POST", "/v1/users", {"content-length": "1"}, b"a"),
    "a body that is too large": request("POST", "/v1/users", {**JSON, "content-length": "100000"}, b" " * 100_000),
    "a wrong body": request("POST", "/v1/users", {**JSON, "content-length": "2"}, b"{}"),
    "a handshake": request("GET", "/v1/socket", {"connection": "upgrade", "upgrade": "websocket"}),
    "not HTTP": b"GET nonsense\r\n\r\n",
    "a URI that is too long": request("GET", "/" + "x" * 70_000),
    "a head that is too large": request("GET", "/", {"x": "y" * 70_000}),
    "a coding of the transfer": request("POST", "/v1/users", {"transfer-encoding": "gzip"}),
    "a target without a path": request("GET", "?x"),
}


def check(answer: RawAnswer, asked_id: str | None = None) -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store" or "etag" in headers
    assert re.fullmatch("accept(, accept-encoding)?", headers["vary"])
    assert "server" not in headers
    assert headers["date"]
    assert headers["x-request-id"] == asked_id if asked_id else NEW_ID(headers["x-request-id"])
    has_length = answer.status not in (204, 304)
    assert ("content-length" in headers) == ("content-type" in headers) == has_length
    if answer.status >= 400 and "problem" in headers["content-type"] and answer.body:
        assert f'"instance":"{headers["x-request-id"]}"'.encode() in answer.body


async def of_each_route(server: HttpServer, headers: dict[str, str]) -> dict[str, RawAnswer]:
    return {
        route.rule: await server.exchange(request(route.method, filled(route.path), {**headers, "content-length": "0"}))
        for route in ROUTES
    }


async def test_the_answers_of_each_route_have_them(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_server(pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT) as server:
        for token in ("", f"Bearer {alice.token}", f"Bearer {OPS_TOKEN}"):
            for asked in (None, "of-the-client.1"):
                headers = {"authorization": token} if token else {}
                answers = await of_each_route(server, headers | ({"x-request-id": asked} if asked else {}))
                for answer in answers.values():
                    check(answer, asked)


@each_row("case", OTHERS)
async def test_the_answers_to_requests_that_come_to_no_route_have_them(pool: Pool, redis_url: str, case: str) -> None:
    async with open_server(pool, redis_url) as server:
        answer = await server.exchange(OTHERS[case])
        check(answer)
        assert answer.status not in (200, 500) or case == "a HEAD"


async def test_a_write_that_answers_nothing_has_them(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_server(pool, redis_url) as server:
        headers = {"authorization": f"Bearer {alice.token}", "x-request-id": "removes"}
        answer = await server.exchange(request("DELETE", "/v1/quiet-hours", headers))
        assert (answer.status, answer.body) == (204, b"")
        check(answer, "removes")


async def test_a_fault_has_them(pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("store.profiles.own", fail, raising=False)
    monkeypatch.setattr("store.tokens.device_by_token", fail)
    async with open_server(pool, redis_url) as server:
        answer = await server.exchange(request("GET", "/v1/profile", {"authorization": "Bearer x"}))
        assert answer.status == 500
        check(answer)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"], ids=["thin path", "Quart"])
async def test_an_answer_that_cannot_be_encoded_is_a_fault(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, object]], path: str
) -> None:
    def fail(body: Any, encoding: Encoding) -> bytes:
        return encode(object() if isinstance(body, HealthAnswer) else body, encoding)

    monkeypatch.setattr("server.http.exchange.encode", fail)
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        for _ in range(2):
            await connection.send(request("GET", path))
            answer = await connection.answer()
            assert answer.status == 500
            check(answer)
    assert [line["event"] for line in log_output if line["log_level"] == "error"] == ["request_failed"] * 2

"""One line for each request: its route, answer, time and ids, and nothing that is a secret of its user."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from client.http import Credentials
from runtime.log_context import add_served
from runtime.redaction import redact
from store.postgres.pool import Pool
from tests.server.http.files.file_world import KEY, open_files, put, sent
from tests.server.http.socket_world import open_server, request
from tests.waiting import wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
IDS = {"x-request-id": "r-1", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def written() -> Iterator[Lines]:
    """The lines, with the names that tasks add."""
    with structlog.testing.capture_logs([add_served]) as lines:
        yield lines


def of_requests(lines: Lines) -> Lines:
    return [line for line in lines if line["event"] in ("request_answered", "request_gone")]


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/v1/conversations", 200, "GET /v1/conversations"),
        ("GET", "/v1/profile", 200, "GET /v1/profile"),
        ("HEAD", "/v1/profile", 200, "GET /v1/profile"),
        ("GET", "/v1/conversations?limit=secret", 400, "GET /v1/conversations"),
        ("GET", f"/v1/email/verifications/alo_{'s' * 43}", 200, "GET /v1/email/verifications/<token>"),
        ("GET", "/secret", 404, "none"),
        ("PATCH", "/v1/conversations", 405, "none"),
        ("OPTIONS", "/v1/conversations", 204, "OPTIONS"),
        ("GET", "//v1/conversations", 404, "none"),
    ],
)
async def test_each_request_leaves_one_line_with_its_route_and_its_ids(
    pool: Pool, redis_url: str, alice: Credentials, written: Lines, method: str, path: str, status: int, route: str
) -> None:
    headers = {"authorization": f"Bearer {alice.token}", "accept-encoding": "identity", **IDS}
    async with open_server(pool, redis_url) as server:
        answer = await server.exchange(request(method, path, headers))
    assert answer.status == status
    [line] = of_requests(written)
    assert (line["log_level"], line["route"], line["status"]) == ("info", route, status)
    assert (line["request_id"], line["trace_id"]) == ("r-1", TRACE)
    assert "ms" in line or route in ("none", "OPTIONS")
    if method == "GET":
        assert line["bytes"] == len(answer.body)
    shown = repr([redact(None, "", dict(line)) for line in of_requests(written)])
    assert not re.search(r"secret|alo_|sss|127\.0\.0\.1", shown)


@pytest.mark.parametrize("head", [b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"GET /secret\r\n\r\n"])
async def test_a_request_that_cannot_be_read_leaves_one_line(
    pool: Pool, redis_url: str, written: Lines, head: bytes
) -> None:
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        await connection.send(head)
        status = (await connection.answer()).status
    [line] = of_requests(written)
    assert (line["route"], line["status"]) == ("none", status)
    assert status >= 400


async def test_probes_of_load_balancers_are_for_debug(pool: Pool, redis_url: str, written: Lines) -> None:
    async with open_server(pool, redis_url) as server:
        for path in ("/healthz", "/readyz"):
            await server.exchange(request("GET", path))
    assert [(line["log_level"], line["route"]) for line in of_requests(written)] == [
        ("debug", "GET /healthz"),
        ("debug", "GET /readyz"),
    ]


async def test_a_request_whose_client_leaves_before_the_answer_leaves_a_line(
    pool: Pool, redis_url: str, alice: Credentials, written: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trio.Event()

    async def hang(*_: Any, **__: Any) -> None:
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr("store.profiles.profile_of", hang)
    async with open_server(pool, redis_url) as server:
        async with server.connected() as connection:
            await connection.send(request("GET", "/v1/profile", {"authorization": f"Bearer {alice.token}"}))
            await begun.wait()
        await wait_until(lambda: of_requests(written), "the server has noticed")
    [line] = of_requests(written)
    assert (line["event"], line["route"]) == ("request_gone", "GET /v1/profile")
    assert line["ms"] >= 0


async def test_above_the_rate_lines_are_left_out_and_counted(pool: Pool, redis_url: str, written: Lines) -> None:
    asked = 30
    async with open_server(pool, redis_url, log_lines_per_s=2) as server, server.connected() as connection:
        for number in range(asked):
            await connection.send(request("GET", "/docs" if number % 3 else "/v1/profile"))
            await connection.answer()
    lines = of_requests(written)
    assert 2 <= len(lines) < asked
    [left_out] = [line for line in written if line["event"] == "lines_left_out"]
    assert left_out["of"] == "request_answered"
    assert left_out["lines"] + len(lines) == asked
    assert set(left_out["outcomes"]) == {"2xx", "4xx"}


async def test_transfers_of_files_leave_lines_without_their_tickets(
    pool: Pool, redis_url: str, tmp_path: Path, written: Lines
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server)
        answer = await server.exchange(sent(folder.presign_get(KEY.replace("7f", "8e"), expires_s=60)))
        assert answer.status == 404
        await server.exchange(request("OPTIONS", "/files/x"))
    lines = of_requests(written)
    assert [(line["route"], line["status"]) for line in lines] == [
        ("PUT /files/", 200),
        ("GET /files/", 404),
        ("OPTIONS", 204),
    ]
    assert "signature" not in repr(written).lower()

"""The names of a request: from the client or new, in the answer, in errors, and in each line of the log."""

from __future__ import annotations

import re
from typing import Any

import pytest
import structlog
import trio

from runtime.log_context import SERVED, RequestNames, add_served
from server.http.hot_path import HotPath
from server.http.request_ids import names_of
from store.postgres.pool import Pool
from tests.people import new_user
from tests.rows import each_row
from tests.server.http.socket_world import open_server, request

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NEW = re.compile("[0-9a-f]{32}").fullmatch

GOOD_IDS = (
    "1",
    "7b5c9b6e-5f6c-4f0e-9d59-0c1c6b2d6f0a",
    "5f3c9a62b1c04b3fa4c56a3b9ad21b11",
    "Root=1-67891233-abcdef012345678912345678",
    "8f1c2b7a4e5d6c81-FRA",
    "q83vEjRWeJA=",
    "a.b_c~d+e/f",
    "x" * 128,
)
BAD_IDS = ("", " ", "a b", "x" * 129, 'a"b', "a\\b", "ü", "a,b", "a:b", "a;b", "<a>", "a\tb", "%41", "{}", "a?b", "a#b")


@each_row("shown", GOOD_IDS)
def test_a_good_id_is_kept(shown: str) -> None:
    assert names_of({"x-request-id": shown}) == RequestNames(shown, None)


@each_row("shown", BAD_IDS)
def test_any_other_id_is_replaced(shown: str) -> None:
    assert NEW(names_of({"x-request-id": shown}).request_id)


def test_each_request_gets_an_id_of_its_own() -> None:
    assert len({names_of({}).request_id for _ in range(1000)}) == 1000


@each_row(
    ("traceparent", "trace_id"),
    [
        (TRACEPARENT, TRACE),
        (f"00-{TRACE}-00f067aa0ba902b7-00", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-what-comes-later", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01", TRACE),
        ("", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE[1:]}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7", None),
        (f"{TRACEPARENT},{TRACEPARENT}", None),
        ("nonsense", None),
    ],
)
def test_the_trace_of_a_request(traceparent: str, trace_id: str | None) -> None:
    assert names_of({"traceparent": traceparent}).trace_id == trace_id


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/profile"], ids=["thin path", "Quart"])
async def test_each_line_that_a_request_logs_has_its_names(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Also a line that a task of the request logs, while other requests are served."""
    alice = await new_user(pool, "alice")
    log = structlog.get_logger("test")

    async def fail(*_: Any, **__: Any) -> None:
        async def inner() -> None:
            await trio.lowlevel.checkpoint()
            log.info("from_a_task")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)
        log.info("from_the_handler")
        raise ZeroDivisionError

    monkeypatch.setattr("server.http.authentication.tokens.device_by_token", fail)
    monkeypatch.setattr("server.http.first_pages.FirstPages.first_of_list", fail)
    async with open_server(pool, redis_url) as server:

        async def ask(number: int) -> None:
            headers = {"authorization": f"Bearer {alice.token}", "x-request-id": f"of-{number}"}
            traced = {"traceparent": TRACEPARENT.replace("00f0", f"00f{number}")} if number % 2 else {}
            answer = await server.exchange(request("GET", path, headers | traced))
            assert (answer.status, answer.headers["x-request-id"]) == (500, f"of-{number}")

        with structlog.testing.capture_logs([add_served]) as lines:
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(ask, number)
    for event in ("from_a_task", "from_the_handler", "request_failed"):
        found = [(line["request_id"], line.get("trace_id")) for line in lines if line["event"] == event]
        assert sorted(found) == [(f"of-{number}", TRACE if number % 2 else None) for number in range(8)], event


async def test_a_connection_has_no_names_between_its_requests(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[RequestNames | None] = []
    find = HotPath.find

    def noting(self: HotPath, data: bytes, start: int) -> Any:
        before.append(SERVED.get())
        return find(self, data, start)

    monkeypatch.setattr(HotPath, "find", noting)
    async with open_server(pool, redis_url) as server, server.connected() as connection:
        ids = set()
        for path in ("/healthz", "/healthz", "/v1/conversations", "/healthz", "/v1/nothing", "/healthz"):
            await connection.send(request("GET", path))
            ids.add((await connection.answer()).headers["x-request-id"])
    assert len(ids) == 6
    assert set(before) == {None}

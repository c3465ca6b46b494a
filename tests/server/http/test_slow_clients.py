"""Clients that hold connections without requests: each is answered, and closed, in bounded time."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest
import trio

from server.http import app, hypercorn_seam, request_turns
from server.transport import room
from store.postgres.pool import Pool
from tests.server.http.socket_world import HttpServer, RawConnection, request, serving_api
from tests.server.http_world import open_services
from tests.waiting import let_pass

SHORT_S = 0.3
GOOD = request("GET", "/healthz")


class Slow(NamedTuple):
    """Bytes, and the answers to them until the connection ends.

    :ivar drops: more bytes, which come one by one.
    """

    data: bytes
    statuses: tuple[int, ...]
    drops: bytes = b""
    method: bytes = b"GET"


REGISTER = request("POST", "/v1/users", {"content-type": "application/json", "content-length": "500"})
CHUNKED = request("POST", "/v1/users", {"content-type": "application/json", "transfer-encoding": "chunked"})
CASES = {
    "no byte": Slow(b"", ()),
    "half a line": Slow(b"GET /heal", (408,)),
    "half a head": Slow(GOOD[:-2], (408,)),
    "a head by drops": Slow(GOOD[:-2] + b"x: ", (408,), b"a"),
    "headers by drops": Slow(GOOD[:-2], (408,), b"x: a\r\n"),
    "idle": Slow(GOOD, (200,)),
    "idle, and half a head": Slow(GOOD + GOOD[:-2], (200, 408)),
    "no byte of a body": Slow(REGISTER, (408,), method=b"POST"),
    "half a body": Slow(REGISTER + b"{", (408,), method=b"POST"),
    "a body by drops": Slow(REGISTER, (408,), b" ", b"POST"),
    "chunks without an end": Slow(CHUNKED, (408,), b"1\r\n \r\n", b"POST"),
    "half a chunk": Slow(CHUNKED + b"ff\r\n{", (408,), method=b"POST"),
    "a body that nobody reads": Slow(request("PATCH", "/v1/profile", {"content-length": "9"}), (401,), b"", b"PATCH"),
    "drops that nobody reads": Slow(request("PATCH", "/v1/profile", {"content-length": "999"}), (401,), b"x", b"PATCH"),
    "chunks that nobody reads": Slow(
        request("PATCH", "/v1/profile", {"transfer-encoding": "chunked"}), (401,), b"1\r\n \r\n", b"PATCH"
    ),
}


@asynccontextmanager
async def impatient(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, **limits: int
) -> AsyncGenerator[HttpServer, None]:
    """A server whose deadlines are `SHORT_S`."""
    monkeypatch.setattr(app, "BODY_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(hypercorn_seam, "HEAD_S", SHORT_S)
    monkeypatch.setattr(hypercorn_seam, "DRAIN_S", SHORT_S)
    async with (
        open_services(pool, redis_url) as services,
        serving_api(services, keep_alive_s=SHORT_S, **limits) as server,
    ):
        yield server


@pytest.mark.parametrize("case", CASES)
async def test_a_slow_client_is_answered_and_closed_in_time(
    case: str, pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = CASES[case]
    async with (
        impatient(pool, redis_url, monkeypatch) as server,
        server.connected() as connection,
        trio.open_nursery() as nursery,
    ):
        await connection.send(slow.data)
        if slow.drops:
            nursery.start_soon(drip, connection, slow.drops)
        with trio.fail_after(15):
            for status in slow.statuses:
                answer = await connection.answer(slow.method)
                assert answer.status == status
                if status == 408:
                    assert json.loads(answer.body)["code"] == "request_timeout"
                    assert answer.headers["connection"] == "close"
            try:
                assert await connection.closed() == b""
            except trio.BrokenResourceError:
                assert slow.drops, "a reset follows only bytes that come after the end"
        nursery.cancel_scope.cancel()


async def drip(connection: RawConnection, drops: bytes) -> None:
    while True:
        for drop in drops:
            try:
                await connection.send(bytes([drop]))
            except trio.BrokenResourceError:
                return
            await let_pass(0.01, why="each drop comes alone")


async def test_375_half_bodies_end_together_and_others_are_served_meanwhile(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only bodies run out of time here: a busy machine takes long to read 375 heads, and to give each its turn."""
    monkeypatch.setattr(app, "BODY_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(hypercorn_seam, "HEAD_S", 60.0)
    monkeypatch.setattr(request_turns, "WAIT_S", 60.0)
    async with (
        open_services(pool, redis_url) as services,
        serving_api(services) as server,
        trio.open_nursery() as nursery,
    ):
        ended: list[int] = []
        all_sent = trio.Semaphore(0)

        async def attack() -> None:
            async with server.connected() as connection:
                await connection.send(REGISTER + b"{")
                all_sent.release()
                ended.append((await connection.answer(b"POST")).status)
                assert await connection.closed() == b""

        for _ in range(375):
            nursery.start_soon(attack)
        for _ in range(375):
            await all_sent.acquire()
        assert (await server.exchange(GOOD)).status == 200
        with trio.move_on_after(60):
            while nursery.child_tasks:
                await let_pass(0.05, why="the connections end by themselves")
        assert ended == [408] * 375


class HeldConnection(NamedTuple):
    """Bytes with which a client holds a connection, the rest of its request, and the answer."""

    data: bytes
    rest: bytes
    method: bytes = b"GET"
    status: int = 200


HELD = {
    "silent": HeldConnection(b"", GOOD),
    "half a head": HeldConnection(GOOD[:-2], GOOD[-2:]),
    "idle": HeldConnection(GOOD, GOOD),
    "no byte of a body": HeldConnection(REGISTER, b"{}".ljust(500), b"POST", 400),
    "half a body": HeldConnection(REGISTER + b"{", b"}".ljust(499), b"POST", 400),
    "half a chunked body": HeldConnection(CHUNKED + b"2\r\n{", b"}\r\n0\r\n\r\n", b"POST", 400),
}


@pytest.mark.parametrize("case", HELD)
async def test_when_there_is_no_room_the_connection_that_has_waited_longest_for_its_client_gives_way(
    case: str, pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HELD[case]
    monkeypatch.setattr(room, "PATIENCE_S", 0.1)
    async with open_services(pool, redis_url) as services, serving_api(services, max_connections=12) as server:
        waiting: list[RawConnection] = []
        for _ in range(30):
            connection = RawConnection(await trio.open_tcp_stream("127.0.0.1", server.port))
            waiting.append(connection)
            await connection.send(held.data)
            if case == "idle":
                assert (await connection.answer()).status == 200
        for _ in range(3):
            assert (await server.exchange(GOOD)).status == 200
        for connection in waiting[:10]:
            with trio.fail_after(5):
                assert await ended(connection) == b""
        last = waiting[-1]
        await last.send(held.rest)
        assert (await last.answer(held.method)).status == held.status, "the youngest is still served"
        for connection in waiting:
            await connection.stream.aclose()


async def ended(connection: RawConnection) -> bytes:
    """The bytes that come before the end, which is a reset if the server has not read all."""
    try:
        return await connection.closed()
    except trio.BrokenResourceError:
        return b""


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def test_streams_of_http_2_that_are_reset_at_once_cost_one_answer(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2023-44487: 16,000 streams, begun and reset."""
    taken: list[int] = []
    take = hypercorn_seam.Http1.handle

    async def counting(self: hypercorn_seam.Http1, event: object) -> None:
        if isinstance(event, hypercorn_seam.RawData):
            taken.append(len(event.data))
        await take(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(hypercorn_seam.Http1, "handle", counting)
    head = b"\x82\x84\x86\x41\x04test"
    streams = b"".join(
        http2_frame(1, 5, stream, head) + http2_frame(3, 0, stream, bytes(4)) for stream in range(1, 32_001, 2)
    )
    async with open_services(pool, redis_url) as services, serving_api(services) as server:
        async with server.connected() as connection, trio.open_nursery() as nursery:
            nursery.start_soon(send_all_that_is_taken, connection, PREFACE + http2_frame(4, 0, 0, b"") + streams)
            answer = await connection.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (505, "unknown_version")
            assert await connection.closed() == b""
        assert len(taken) == 1, "what comes after the refusal is dropped unread"
        assert (await server.exchange(GOOD)).status == 200


async def send_all_that_is_taken(connection: RawConnection, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await connection.send(data)

"""The HTTP load against a small server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from bench.http import HttpRun, headers_of, load, request

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: x\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n2\r\nok\r\n0\r\n\r\n"
"""The first chunk is what the last one looks like."""

NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"


@asynccontextmanager
async def answering(answer: bytes, *, piece_bytes: int = 1000) -> AsyncIterator[int]:
    """A server with this answer to each request, sent in pieces of that size; yields its port."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                for at in range(0, len(answer), piece_bytes):
                    await stream.send_all(answer[at : at + piece_bytes])
                    await trio.lowlevel.checkpoint()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def run_of(port: int, **options: float | Callable[[], None]) -> HttpRun:
    return await trio.to_thread.run_sync(
        partial(load, port, [request("/")] * 5, 2, **options)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("answer", "status"), [(WHOLE, 200), (CHUNKED, 200), (NOT_MODIFIED, 304)])
@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
async def test_each_request_is_made_once_and_its_answer_read_to_the_end(
    answer: bytes, status: int, piece_bytes: int
) -> None:
    async with answering(answer, piece_bytes=piece_bytes) as port:
        run = await run_of(port, status=status)
    assert (run.first_error, len(run.latencies), run.answer_bytes) == ("", 5, 5 * len(answer))


async def test_an_answer_that_is_not_good_ends_the_run_and_is_shown() -> None:
    async with answering(BUSY) as port:
        run = await run_of(port)
    assert run.first_error.startswith("HTTP/1.1 503 Busy")
    assert len(run.latencies) < 5


async def test_changes_between_reads_take_none_of_the_time() -> None:
    pauses = []

    def pause() -> None:
        began = time.perf_counter()
        while time.perf_counter() < began + 0.05:
            pass
        pauses.append(time.perf_counter() - began)

    async with answering(WHOLE) as port:
        began = time.perf_counter()
        run = await run_of(port, before=pause)
        took = time.perf_counter() - began
    assert len(pauses) == 5
    assert run.seconds <= took - sum(pauses)
    assert run.seconds > 0


async def test_a_load_ends_in_time() -> None:
    async with answering(WHOLE) as port:
        run = await run_of(port, seconds=0)
    assert len(run.latencies) == 2, "each connection has the answer to its first request"


async def test_headers_are_read_by_their_names_in_small_letters() -> None:
    async with answering(WHOLE) as port:
        assert await trio.to_thread.run_sync(headers_of, port, request("/")) == {"content-length": "2", "etag": "x"}
    async with answering(BUSY) as port:
        with pytest.raises(ConnectionError, match="503"):
            await trio.to_thread.run_sync(headers_of, port, request("/"))

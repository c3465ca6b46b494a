"""Connections of HTTP/1.1: keep-alive, pipelining, early answers, ends. Each fault of Hypercorn's that is mended."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from hypercorn.events import Closed, RawData
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from server.http import hypercorn_seam
from server.http.exchange import Reply
from server.http.hypercorn_seam import HttpConnection
from server.http.problem_codes import MAX_BODY_PIECES, ProblemCode
from server.http.request_heads import ASK_FOR_BODY
from server.transport import room
from tests.server.http.socket_world import HttpServer, RawConnection, request, serving, shrink_buffers
from tests.waiting import let_pass, wait_until

GOOD = request("GET", "/after")


class NoPlainReads:
    """A thin path that leaves all requests to the application."""

    def find(self, _data: bytes, _start: int) -> None:
        return None


class Plain:
    """A thin path for requests of one line, `GET /plain`; it answers when the test lets it."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.release = trio.Event()
        self.release.set()

    def find(self, data: bytes, start: int) -> PlainAnswer | None:
        return PlainAnswer(self, start + len(PLAIN)) if data.startswith(PLAIN, start) else None


def refuse(code: ProblemCode, _peer: str) -> Reply:
    return Reply(code.info.status, {"content-type": "text/plain"}, b"refused")


class PlainAnswer:
    def __init__(self, plain: Plain, end: int) -> None:
        self._plain = plain
        self.end = end
        self.path = "/plain"
        self.headers: dict[str, str] = {}
        self.path = "/plain"

    async def answer(self, _peer: str) -> Reply:
        self._plain.started.set()
        await self._plain.release.wait()
        return Reply(200, {"content-type": "text/plain"}, b"plain")


PLAIN = request("GET", "/plain")


class App:
    """Answers without reading the body, or after it (`/reads`); with as many bytes as the path asks (`/bytes/9000`)."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.release = trio.Event()
        self.release.set()
        self.ends: list[str] = []

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise ValueError(f"no application for {scope['type']}")
        path = scope["path"]
        body = path.encode()
        message: Any = {"more_body": path == "/reads"}
        if path == "/reads":
            await scope["state"][ASK_FOR_BODY]()
        while message["more_body"]:
            message = await receive()
        if path.startswith("/bytes/"):
            body = bytes(int(path.rpartition("/")[2]))
        self.started.set()
        await self.release.wait()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 401, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        # As Quart does: the end of the request is the last that it hears.
        while message.get("type") != "http.disconnect":
            message = await receive()
        self.ends.append(path)


@asynccontextmanager
async def connected(
    app: App | None = None, plain: Any = None
) -> AsyncGenerator[tuple[HttpServer, RawConnection], None]:
    async with serving(app or App(), plain or NoPlainReads(), refuse) as server, server.connected() as connection:
        yield server, connection


Late = Callable[[RawConnection], Awaitable[None]]

BODIES: dict[str, tuple[dict[str, str], list[bytes]]] = {
    "no body": ({}, []),
    "empty": ({"content-length": "0"}, []),
    "in one piece": ({"content-length": "2"}, [b"{}"]),
    "in two pieces": ({"content-length": "4"}, [b"{}", b"{}"]),
    "chunked": ({"transfer-encoding": "chunked"}, [b"2\r\n{}\r\n", b"0\r\n\r\n"]),
    "with the next request": ({"content-length": "2"}, [b"{}" + request("GET", "/pipelined")]),
    "of the greatest size": (
        {"content-length": str(hypercorn_seam.DRAIN_BYTES)},
        [bytes(hypercorn_seam.DRAIN_BYTES // 2)] * 2,
    ),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_connection_goes_on_after_an_answer_that_came_before_the_body(case: str) -> None:
    headers, late = BODIES[case]
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/early", headers))
        early = await connection.answer(b"PUT")
        assert (early.status, early.body) == (401, b"/early")
        assert "connection" not in early.headers
        for part in late:
            await connection.send(part)
        if "next" in case:
            assert (await connection.answer()).body == b"/pipelined"
        for _ in range(2):
            await connection.send(GOOD)
            assert (await connection.answer()).body == b"/after"


@pytest.mark.parametrize("case", BODIES)
async def test_a_connection_goes_on_after_a_body_that_was_read(case: str) -> None:
    headers, late = BODIES[case]
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/reads", headers), *late)
        assert (await connection.answer(b"PUT")).body == b"/reads"
        if "next" in case:
            assert (await connection.answer()).body == b"/pipelined"
        await connection.send(GOOD)
        assert (await connection.answer()).body == b"/after"


async def test_a_client_that_holds_its_body_back_gets_100_when_the_application_asks_for_it() -> None:
    held_back = {"content-length": "2", "expect": "100-continue"}
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/reads", held_back))
        assert await connection.stream.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
        await connection.send(b"{}")
        assert (await connection.answer(b"PUT")).body == b"/reads"
        await connection.send(request("PUT", "/early", held_back))
        answered = await connection.closed()
        assert answered.startswith(b"HTTP/1.1 401")
        assert answered.count(b"HTTP/1.1") == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    plain = Plain()
    async with connected(plain=plain) as (_, connection):
        await connection.send(
            PLAIN + GOOD + PLAIN + PLAIN + GOOD + request("PUT", "/x", {"content-length": "3"}, b"abc")
        )
        await connection.send(PLAIN)
        bodies = [(await connection.answer(b"PUT" if n == 5 else b"GET")).body for n in range(7)]
    # The application answers plain reads too, if they come together with a request before them.
    assert [body.strip(b"/") for body in bodies] == [b"plain", b"after", b"plain", b"plain", b"after", b"x", b"plain"]


async def test_requests_in_any_pieces_are_answered() -> None:
    data = PLAIN + GOOD
    async with connected(plain=Plain()) as (_, connection):
        for n in range(1, len(data)):
            await connection.send(data[:n])
            await trio.testing.wait_all_tasks_blocked()
            await connection.send(data[n:])
            statuses = [(await connection.answer()).body for _ in range(2)]
            # A plain read that comes in pieces goes to the application.
            assert statuses == [b"plain" if n >= len(PLAIN) else b"/plain", b"/after"]


EMPTY_LINES = {
    "first": [b"\r\n" + GOOD],
    "first, in pieces": [b"\r", b"\n", GOOD],
    "first, before a plain read": [b"\r\n" + PLAIN],
    "after a plain read": [PLAIN + b"\r\n" + GOOD],
    "after a body": [request("PUT", "/reads", {"content-length": "2"}, b"{}\r\n") + GOOD],
    "after a body, in pieces": [request("PUT", "/reads", {"content-length": "2"}, b"{}\r"), b"\n" + GOOD],
    "after a body that is not read": [request("PUT", "/early", {"content-length": "2"}), b"{}\r\n" + GOOD],
    "after an answer": [GOOD, b"\r\n", GOOD],
}
"""The pieces of requests with an empty line before one of them, as old clients send it after a body."""


@pytest.mark.parametrize("case", EMPTY_LINES)
async def test_an_empty_line_before_a_request_is_ignored(case: str) -> None:
    """RFC 9112, section 2.2."""
    pieces = EMPTY_LINES[case]
    async with connected(plain=Plain()) as (_, connection):
        for piece in pieces:
            await connection.send(piece)
            await trio.testing.wait_all_tasks_blocked()
        sent = b"".join(pieces)
        for method in re.findall(rb"(GET|PUT) /", sent):
            assert (await connection.answer(method)).body != b"refused"
        await connection.send(GOOD)
        assert (await connection.answer()).body == b"/after"


async def test_a_body_that_is_too_large_ends_the_connection_after_the_answer() -> None:
    size = hypercorn_seam.DRAIN_BYTES + 1
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/early", {"content-length": str(size)}))
        early = await connection.answer(b"PUT")
        assert (early.body, early.headers["connection"]) == (b"/early", "close")
        # The server takes the rest, so no reset destroys the answer.
        await connection.send(bytes(size))
        assert await connection.closed() == b""


async def test_a_chunked_body_that_is_too_large_ends_the_connection() -> None:
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/early", {"transfer-encoding": "chunked"}))
        assert (await connection.answer(b"PUT")).body == b"/early"
        for _ in range(hypercorn_seam.DRAIN_BYTES // 65536 + 1):
            await connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")
        assert await connection.closed() == b""


@pytest.mark.parametrize("headers", [{"content-length": "2"}, {"transfer-encoding": "chunked"}])
async def test_a_body_that_does_not_come_ends_the_connection_in_time(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_seam, "DRAIN_S", 0.1)
    async with connected() as (_, connection):
        await connection.send(request("PUT", "/early", headers))
        assert (await connection.answer(b"PUT")).body == b"/early"
        with trio.fail_after(5):
            assert await connection.closed() == b""


async def test_a_client_that_does_not_close_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercorn_seam, "DRAIN_S", 0.1)
    app = App()
    async with connected(app) as (_, connection):
        await connection.send(request("GET", "/last", {"connection": "close"}))
        assert (await connection.answer()).headers["connection"] == "close"
        assert await connection.closed() == b""
        # The server has closed for reading too: writes fail sooner or later.
        with trio.fail_after(5):
            while await is_open(connection):
                await trio.lowlevel.checkpoint()


async def is_open(connection: RawConnection) -> bool:
    try:
        await connection.send(bytes(1000))
    except trio.BrokenResourceError:
        return False
    return True


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + bytes(70_000), 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 70_000, 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505),
        (b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
    ],
)
async def test_a_request_that_is_not_http_is_answered_and_the_connection_closed(data: bytes, status: int) -> None:
    async with connected() as (_, connection):
        await connection.send(data)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"], answer.body) == (status, "close", b"refused")
        assert await connection.closed() == b""


@pytest.mark.parametrize(
    "head", [b"nonsense\r\n\r\n", request("GET", "/", {"upgrade": "h2c"})], ids=["h11", "its head"]
)
async def test_a_refusal_goes_out_in_its_time(head: bytes) -> None:
    """So clients that do not wait ask less often."""

    def refuse_later(code: ProblemCode, _peer: str) -> Reply:
        return Reply(code.info.status, {}, b"refused", pause_s=600.0)

    async with serving(App(), NoPlainReads(), refuse_later) as server, server.connected() as connection:
        await connection.send(head)
        with trio.move_on_after(0.3) as waiting:
            await connection.answer()
        assert waiting.cancelled_caught
        assert (await server.exchange(GOOD)).status == 401, "no other client waits"


@pytest.mark.parametrize("path", ["/reads", "/early"])
@pytest.mark.parametrize("is_too_many", [False, True])
async def test_a_body_has_a_bounded_number_of_pieces(path: str, *, is_too_many: bool) -> None:
    """CPU by the byte: 30,000 chunks of a byte take as long as thousands of requests, and are one. Each body of a
    connection has as many pieces, also one whose answer is out before it has come."""
    chunks = b"1\r\nx\r\n" * (MAX_BODY_PIECES + is_too_many) + b"0\r\n\r\n"
    async with connected() as (_, connection):
        for _ in range(2):
            await connection.send(request("PUT", path, {"transfer-encoding": "chunked"}), chunks)
            answer = await connection.answer(b"PUT")
            if is_too_many:
                assert (answer.status, answer.body) == ((413, b"refused") if path == "/reads" else (401, b"/early"))
                with trio.fail_after(5):
                    assert await ended(connection) == b""
                return
            assert (answer.status, answer.body) == (401, path.encode())
        await connection.send(GOOD)
        assert (await connection.answer()).status == 401


async def ended(connection: RawConnection) -> bytes:
    """The bytes that come before the end, which is a reset if the server has not read all."""
    try:
        return await connection.closed()
    except trio.BrokenResourceError:
        return b""


async def test_no_client_is_taken_on_to_http_2() -> None:
    upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"}
    async with connected() as (_, connection):
        await connection.send(request("GET", "/upgrade", upgrade))
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"], answer.body) == (400, "close", b"refused")
        await connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await connection.closed() == b""


@pytest.mark.parametrize(
    "parts", [(GOOD,), (PLAIN,), (request("PUT", "/reads", {"content-length": "2"}), b"{", b"}")], ids=str
)
async def test_a_connection_with_a_request_makes_room_for_others_by_its_answer(
    parts: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not closed before, however long that takes, and takes no more requests."""
    monkeypatch.setattr(room, "PATIENCE_S", 0.1)
    app, plain = App(), Plain()
    app.release, plain.release = trio.Event(), trio.Event()
    async with serving(app, plain, refuse, max_connections=8) as server, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(server.connected()) for _ in range(5)]
        for connection in busy:
            for part in parts:
                await connection.send(part)
                await trio.testing.wait_all_tasks_blocked()
        await wait_until(lambda: server.connections.served == 5, "all are being served")
        another = await stack.enter_async_context(server.connected())
        await another.send(GOOD)
        await wait_until(lambda: server.connections.is_wanted, "another waits for room")
        await let_pass(0.3, why="connections that wait for their clients have given way by then")
        app.release.set()
        plain.release.set()
        for connection in busy:
            answer = await connection.answer(parts[0].partition(b" ")[0])
            assert (answer.status, answer.headers["connection"]) == (200 if parts[0] == PLAIN else 401, "close")
            await connection.stream.aclose()
        assert (await another.answer()).status == 401


async def test_an_idle_connection_is_closed() -> None:
    async with serving(App(), NoPlainReads(), refuse, keep_alive_s=0.1) as server, server.connected() as connection:
        await connection.send(GOOD)
        await connection.answer()
        with trio.fail_after(5):
            assert await connection.closed() == b""


@pytest.mark.parametrize("first", [GOOD, PLAIN, b""])
async def test_a_connection_that_its_client_closes_is_closed_at_once(first: bytes) -> None:
    async with serving(App(), Plain(), refuse) as server, server.connected() as connection:
        if first:
            await connection.send(first)
            await connection.answer()
        await connection.stream.send_eof()
        with trio.fail_after(2):
            assert await connection.closed() == b""


class EndingWithTheRequest(App):
    """Waits for the end of the request, as Quart does beside each handler, which it cancels then."""

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise ValueError(f"no application for {scope['type']}")
        self.started.set()
        while (await receive())["type"] != "http.disconnect":
            pass


async def test_a_client_that_closes_its_own_side_gives_the_request_up() -> None:
    app = EndingWithTheRequest()
    async with connected(app) as (_, connection):
        await connection.send(GOOD)
        await app.started.wait()
        await connection.stream.send_eof()
        with trio.fail_after(2):
            assert await connection.closed() == b""


@pytest.mark.parametrize("path", ["/bytes/30000000"])
async def test_a_client_that_does_not_read_is_closed_in_time(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercorn_seam, "WRITE_S", 0.2)
    app = App()
    async with connected(app) as (_, connection):
        shrink_buffers(connection.stream)
        await connection.send(request("GET", path))
        with trio.fail_after(10):
            while app.ends != [path]:
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises((trio.BrokenResourceError, EOFError)):
                await connection.answer()


@pytest.mark.parametrize("first", [GOOD, PLAIN])
async def test_a_request_under_way_is_answered_when_the_process_ends(first: bytes) -> None:
    app, plain = App(), Plain()
    app.release, plain.release = trio.Event(), trio.Event()
    async with connected(app, plain) as (server, connection):
        await connection.send(first)
        await (app if first is GOOD else plain).started.wait()
        async with server.connected() as idle:
            server.terminated.set()
            assert await idle.closed() == b""
        app.release.set()
        plain.release.set()
        answer = await connection.answer()
        assert answer.body == (b"/after" if first is GOOD else b"plain")
        assert answer.headers["connection"] == "close"
        assert await connection.closed() == b""
        await connection.stream.aclose()
        with trio.fail_after(3):
            await server.ended.wait()


@pytest.mark.parametrize("first", [GOOD, PLAIN])
async def test_each_answer_is_the_last_of_its_connection_once_the_process_was_told_to_stop(first: bytes) -> None:
    """A proxy that keeps connections has none left when the process ends, and gets new ones until then."""
    is_stopping = False
    async with serving(App(), Plain(), refuse, is_stopping=lambda: is_stopping) as server:
        async with server.connected() as before:
            await before.send(first)
            assert (await before.answer()).headers.get("connection") != "close"
            is_stopping = True
            await before.send(first)
            assert (await before.answer()).headers["connection"] == "close"
            assert await before.closed() == b""
        assert (await server.exchange(first)).headers["connection"] == "close"


@pytest.mark.parametrize("late", [GOOD, PLAIN])
async def test_a_request_that_is_on_its_way_when_the_process_ends_is_answered(late: bytes) -> None:
    """On a connection that is new, one that was used before, and one that the kernel holds."""
    async with serving(App(), Plain(), refuse) as server, server.connected() as new, server.connected() as used:
        await used.send(GOOD)
        await used.answer()
        await trio.testing.wait_all_tasks_blocked()
        server.terminated.set()
        sock = socket.create_connection(("127.0.0.1", server.port))  # no checkpoint: the server does not accept it
        held = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        for connection in (new, used, RawConnection(held)):
            await connection.send(late)
            assert (await connection.answer()).headers["connection"] == "close"
            assert await connection.closed() == b""
            await connection.stream.aclose()
        with trio.fail_after(3):
            await server.ended.wait()


async def test_a_head_that_does_not_come_to_its_end_holds_the_end_of_the_process_up_no_longer_than_others() -> None:
    async with connected() as (server, connection):
        await connection.send(GOOD[:10])
        await trio.testing.wait_all_tasks_blocked()
        server.terminated.set()
        assert (await connection.answer()).status == 408
        await connection.stream.aclose()
        with trio.fail_after(3):
            await server.ended.wait()


async def test_head_and_body_are_one_write() -> None:
    async with connected(plain=Plain()) as (_, connection):
        for data in (GOOD, PLAIN):
            await connection.send(data)
            received = await connection.stream.receive_some(65536)
            assert received.endswith((b"\r\n\r\n/after", b"\r\n\r\nplain"))


async def test_the_application_hears_of_the_end_of_each_request() -> None:
    app = App()
    async with connected(app) as (_, connection):
        for path in ("/a", "/b"):
            await connection.send(request("PUT", path, {"content-length": "1"}))
            await connection.answer(b"PUT")
            await connection.send(b"x")
        await connection.send(GOOD)
        await connection.answer()
    assert app.ends[:2] == ["/a", "/b"]


async def test_a_connection_serves_so_many_requests() -> None:
    async with serving(App(), Plain(), refuse, max_requests=3) as server:
        for data in (GOOD, PLAIN):
            async with server.connected() as connection:
                closes = []
                for _ in range(3):
                    await connection.send(data)
                    closes.append("connection" in (await connection.answer()).headers)
                assert closes == [False, False, True]
                assert await connection.closed() == b""


async def test_the_end_of_a_connection_waits_for_an_answer_that_is_being_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two tasks may not use a stream at once: Trio would raise BusyResourceError, which would end the process."""
    monkeypatch.setattr(hypercorn_seam, "WRITE_S", 0.2)
    kept: list[HttpConnection] = []

    class Kept(HttpConnection):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(hypercorn_seam, "HttpConnection", Kept)
    async with connected() as (_, client):
        shrink_buffers(client.stream)
        await client.send(GOOD)
        await client.answer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept[0].protocol_send, RawData(bytes(30_000_000)))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(kept[0].protocol_send, Closed())

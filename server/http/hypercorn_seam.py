"""Connections of HTTP/1.1: Hypercorn's, with its faults mended. The one file that reaches into Hypercorn (0.18).

Hypercorn parses requests with h11 and runs Quart for each. This file changes, with a test for each in
`tests/server/http/test_hypercorn_seam.py`:

- Hypercorn answers before the end of the request's body, and then neither serves the connection nor closes it. Here the
  rest of the body is read and dropped, within `DRAIN_BYTES` and `DRAIN_S`; then the next request is served, or the
  connection closed.
- Hypercorn closes a connection with unread data, and the reset that follows may destroy the answer. Here the connection
  is closed for writing first, and read until the client closes it too, for up to `DRAIN_S`.
- Hypercorn refuses an empty line before a request. Here one is ignored (RFC 9112, section 2.2).
- Hypercorn answers a request that is not HTTP without a body. Here the answer is a problem document.
- Hypercorn gives requests to Quart at which Quart fails (`GET ?a`). Here `server.http.request_heads` refuses them.
- Hypercorn opens WebSockets, which belong to `socket`, and goes over to HTTP/2. Here the same module refuses both.
- Hypercorn takes a body in any number of pieces, each of which costs more than its bytes. Here `MAX_BODY_PIECES`.
- Hypercorn lets a client send the body that it holds back (`Expect: 100-continue`) before the application has seen the
  head. Here the application asks for the body; a client that is refused before that may send it or not, so no request
  can follow, and the connection is closed.
- Hypercorn waits for ever for a client that does not read its answer. Here `WRITE_S`.
- Hypercorn waits as long for a head that has begun as for one that has not. Here `HEAD_S`, and an answer.
- Hypercorn knows neither the PROXY protocol nor limits of connections. Here `OpenConnections`. While others wait for
  room, connections that wait for a request, or the rest of one, are closed, and each answer is the last of its
  connection.
- Hypercorn ends connections whose request is on its way when the process ends. Here they have `LAST_REQUEST_S`.
- Hypercorn keeps a connection that its client has closed until the idle timeout. Here it is closed at once.
- Hypercorn starts a task for each request that waits for the idle timeout. Here each connection has one.
- Hypercorn writes head and body separately. Here one write has both, up to `FLUSH_BYTES`.
- Hypercorn runs all requests at once. Here they have turns (`RequestTurns`).
- Hypercorn has a task and two queues for each request. Here the connection's own task answers hot reads (`PlainReads`),
  takes and sends files, and takes large bodies (`DirectRequests`), whose bytes pass neither h11 nor any queue.

The server speaks no HTTP/2: a proxy that speaks it to clients speaks HTTP/1.1 to us, and one connection could begin
thousands of requests at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import time
from typing import Any, Final, Protocol, TypeAlias

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, Framework, H11SendableEvent
from hypercorn.utils import parse_socket_addr, wrap_app

from server.http.exchange import Reply
from server.http.files.wire import Wire
from server.http.open_connections import OpenConnections
from server.http.problem_codes import MAX_BODY_PIECES, MAX_HEAD_BYTES, ProblemCode
from server.http.request_headers import Headers
from server.http.request_heads import ASK_FOR_BODY, END_TURN, accepted_head, code_of
from server.http.request_turns import RequestTurns, Turn
from server.transport.addresses import read_announced
from server.transport.listener import accept_connections, accept_rest
from server.transport.proxies import NO_PROXIES, TrustedProxies, forwarded_address

HEAD_S: Final = 20.0
"""The time from accepting a connection to the first byte of a request, and from there to the end of the head. As long
as for a body; nginx waits for 60 s, Apache for 20 to 40 s."""

KEEP_ALIVE_S: Final = 75.0
"""A connection is closed after this time without a request. nginx gives up idle connections of its pool earlier, so it
sends no request on a connection that is being closed."""

MAX_REQUESTS: Final = 1000
"""The most requests of a connection, so that clients spread over processes that have started since."""

DRAIN_S: Final = 5.0
"""The time for the rest of a body after an early answer, and for the client to close after the last answer."""

DRAIN_BYTES: Final = 128 * 1024
"""The most of a body that is read after an early answer to keep the connection; two bodies of the greatest size."""

WRITE_S: Final = 30.0
"""The time for the client to take an answer, or a part of `FLUSH_BYTES`."""

LAST_REQUEST_S: Final = 0.5
"""The time for a request that is on its way when the process ends, on a connection that waits for one: a proxy that has
just connected has sent it. Without this time the proxy would have to answer 502, unless it may repeat the request."""

REFUSED_S: Final = 1.0
"""The time for a client to read that its address has too many connections, and to close."""

FLUSH_BYTES: Final = 64 * 1024


class PlainRead(Protocol):
    """A request that the thin path answers."""

    @property
    def end(self) -> int:
        """The end of the request in the data."""

    @property
    def path(self) -> str:
        """The path of the request, without its query."""

    @property
    def headers(self) -> Headers:
        """The headers of the request."""

    async def answer(self, peer: str) -> Reply:
        """The answer. Raises no error but cancellation.

        :param peer: the address of the connection's other end, or the one that its PROXY header names.
        """


class PlainReads(Protocol):
    """The thin path."""

    def find(self, data: bytes, start: int) -> PlainRead | None:
        """The request that begins at `start`; None if it is incomplete, or the application has to answer it."""


class DirectRequests(Protocol):
    """Requests whose bodies, or answers, the connection's task moves: files, and large bodies."""

    def find(self, method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], /) -> Any | None:
        """The request for `serve`; None if the application has to answer it.

        :param target: a path with its query.
        """

    async def serve(self, request: Any, wire: Wire, /) -> bool:
        """Answer; False if the client is gone. Raises no error but cancellation."""


Refuse: TypeAlias = Callable[[ProblemCode, str], Reply]
"""From the code, and the address of the connection's other end or the one that its PROXY header names, to the answer to
a head, or a connection, that is refused."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """The parts that all connections share."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    state: dict[str, Any]
    plain: PlainReads
    direct: Sequence[DirectRequests]
    refuse: Refuse
    proxies: TrustedProxies
    open: OpenConnections
    turns: RequestTurns
    is_ending: Callable[[], bool]


async def serve_http(
    app: Framework,
    plain: PlainReads,
    refuse: Refuse,
    listening: socket.socket,
    terminated: trio.Event,
    *,
    direct: Sequence[DirectRequests] = (),
    turns: RequestTurns,
    connections: OpenConnections,
    is_stopping: Callable[[], bool] = lambda: False,
    proxies: TrustedProxies = NO_PROXIES,
    grace_s: float,
    keep_alive_s: float = KEEP_ALIVE_S,
    max_requests: int = MAX_REQUESTS,
) -> None:
    """Serve until `terminated`, and then answer the requests under way, and those of connections in the kernel's queue.

    :param app: an ASGI application, for all requests that the thin path leaves. It calls `ASK_FOR_BODY` of the scope's
        state before it waits for a body.
    :param listening: as `server.transport.listener.listen` returns it; closed when `terminated`.
    :param direct: kinds of requests for neither of them.
    :param turns: of the requests.
    :param connections: counts and bounds them.
    :param is_stopping: whether the process will soon be `terminated`: then each answer is the last of its connection,
        so that a proxy has no connection left by then. A function without a checkpoint.
    :param proxies: those that may send a PROXY header.
    :param grace_s: the time for the requests under way.
    :param keep_alive_s: until an idle connection is closed.
    :param max_requests: of a connection, which the last answer closes.
    """
    config = Config()
    config.accesslog = config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    config.keep_alive_timeout = keep_alive_s
    config.keep_alive_max_requests = max_requests
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)
    state: dict[str, Any] = {}
    lifespan = Lifespan(wrapped, config, state)

    def is_ending() -> bool:
        return is_stopping() or terminated.is_set() or connections.is_wanted

    shared = _Shared(wrapped, config, context, state, plain, direct, refuse, proxies, connections, turns, is_ending)

    async def serve(sock: socket.socket, peer: str) -> None:
        connection = HttpConnection(shared, trio.SocketStream(trio.socket.from_stdlib_socket(sock)), peer)
        connections.enter(connection)
        try:
            await connection.run()
        finally:
            connections.leave(connection)

    async with trio.open_nursery() as lifespans:
        await lifespans.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as serving:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(accept_connections, listening, serving, serve, connections.wait_room)
                await terminated.wait()
                accepting.cancel_scope.cancel()
            await accept_rest(listening, serving, serve)
            await context.terminated.set()
            serving.cancel_scope.deadline = trio.current_time() + grace_s
        await lifespan.wait_for_shutdown()
        lifespans.cancel_scope.cancel()


class _Draining(Event):
    """The answer is out, and the rest of the request's body has `DRAIN_S` to come."""


class _AwaitingBody(Event):
    """The application waits for the rest of the request's body."""


class HttpConnection(TCPServer):
    """A connection; `run` serves it.

    :param peer: the address of the other end.
    """

    stream: trio.SocketStream  # type: ignore[assignment]  # never TLS, which proxies end
    protocol: Http1  # type: ignore[assignment]  # Hypercorn's wrapper goes on to HTTP/2

    def __init__(self, shared: _Shared, stream: trio.SocketStream, peer: str) -> None:
        state = ConnectionState(shared.state.copy())
        super().__init__(shared.app, shared.config, shared.context, state, stream)  # type: ignore[arg-type]  # as above
        self._shared = shared
        self._peer = peer
        self._is_idle = True
        self._has_begun_head = False
        self._is_last = False
        self._is_over = False
        self._awaits_body = False
        self._deadline = trio.current_time() + HEAD_S
        self._nap = trio.CancelScope(deadline=self._deadline)

    async def run(self) -> None:
        key = None
        try:
            first = await self._find_client()
            if first is None:
                return
            may_go_on, key = self._shared.open.count(self._peer)
            server = parse_socket_addr(self.stream.socket.family, self.stream.socket.getsockname())
            async with TaskGroup() as task_group:
                self.protocol = Http1(
                    *(self.app, self.config, self.context, task_group, self.state, False),
                    *((self._peer, 0), server, self.protocol_send),
                    descriptor=self.stream.socket.fileno(),
                    plain=self._shared.plain,
                    direct=self._shared.direct,
                    refuse=self._shared.refuse,
                    turns=self._shared.turns,
                    is_ending=self._shared.is_ending,
                )
                task_group.spawn(self._watch)
                if not may_go_on:
                    await self._refuse(ProblemCode.TOO_MANY_CONNECTIONS, REFUSED_S)
                elif first:
                    await self._take(first)
                await self._read_data()
                self._is_over = True
                self._nap.cancel()
        except OSError:
            pass  # The client was gone before the server's address was read.
        finally:
            self._shared.open.uncount(key)
            await self._close()

    async def _find_client(self) -> bytes | None:
        """Find the client's address; the bytes after the PROXY header, or None if the connection is over."""
        if self._peer not in self._shared.proxies:
            self._peer = forwarded_address(self._peer, None, NO_PROXIES)
            return b""
        with self._nap:
            try:
                announced = await read_announced(self._peer, self._receive)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return None
            if announced is not None:
                self._peer = announced.address
                return announced.rest
        return None

    async def _receive(self) -> bytes:
        return bytes(await self.stream.receive_some(FLUSH_BYTES))

    def expire(self) -> None:
        """Close soon, since others need the room. Atomic (no checkpoint)."""
        self._has_begun_head = False
        self._deadline = -inf
        self._nap.cancel()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Updated):
            self._update(is_idle=event.idle)
        elif isinstance(event, _AwaitingBody):
            self._awaits_body = True
            self._shared.open.wait_for_client(self)
        elif isinstance(event, _Draining):
            self._set_deadline(DRAIN_S)
        elif isinstance(event, Closed):
            await self._linger(DRAIN_S)

    def _update(self, *, is_idle: bool) -> None:
        self._is_idle = is_idle
        self._has_begun_head = self._awaits_body = False
        self._shared.open.serve(self)
        if is_idle:
            is_over = self.context.terminated.is_set()
            self._deadline = -inf if is_over else trio.current_time() + self.config.keep_alive_timeout
            self._shared.open.wait_for_client(self)
            if is_over:
                self._nap.cancel()
        else:
            self._deadline = inf

    async def _read_data(self) -> None:
        data = b"-"
        while data:
            try:
                data = await self._receive()
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            if not self._is_last:
                await self._take(data)
        await self.protocol.handle(Closed())

    async def _take(self, data: bytes) -> None:
        await self.protocol.handle(RawData(data))
        if self._awaits_body and not self.protocol.is_awaiting_body:
            self._awaits_body = False
            self._shared.open.serve(self)
        if self._is_idle and not self._has_begun_head and self.protocol.has_begun_head:
            self._has_begun_head = True
            self._set_deadline(LAST_REQUEST_S if self.context.terminated.is_set() else HEAD_S)

    async def _write(self, data: bytes) -> None:
        async with self.send_lock:
            try:
                with trio.move_on_after(WRITE_S, shield=True) as waiting:
                    await self.stream.send_all(data)
                if not waiting.cancelled_caught:
                    return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        await self._close()
        await self.protocol.handle(Closed())

    def _set_deadline(self, in_s: float) -> None:
        self._deadline = trio.current_time() + in_s
        self._nap.deadline = min(self._nap.deadline, self._deadline)

    async def _refuse(self, code: ProblemCode, linger_s: float) -> None:
        """Answer what is no request, and close the connection."""
        self._is_last = True
        await self.protocol.send_refusal(code)
        await self._linger(linger_s)

    async def _linger(self, linger_s: float) -> None:
        """Close the connection for writing, and drop what still comes until the client closes it too, for so long."""
        self._is_last = True
        self._shared.open.wait_for_client(self)
        self._set_deadline(linger_s)
        try:
            # Another task may be writing an answer.
            with trio.CancelScope(shield=True):
                async with self.send_lock:
                    await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._close()
        await self.protocol.handle(Closed())

    async def _close(self) -> None:
        # Hypercorn calls it in the task of an application, which has been cancelled when its client is gone.
        # It closes for writing first, which fails beside `_linger`.
        with trio.CancelScope(shield=True):
            await self.stream.aclose()

    async def _watch(self) -> None:
        """Close the connection when its deadline has passed; soon, if the process ends and no request is under way."""
        terminated, has_seen_end = self.context.terminated, False
        while not self._is_over:
            if terminated.is_set() and not has_seen_end:
                has_seen_end = True
                if self._is_idle:
                    self._deadline = min(self._deadline, trio.current_time() + LAST_REQUEST_S)
            now = trio.current_time()
            if now >= self._deadline and self._has_begun_head and not self._is_last:
                await self._refuse(ProblemCode.REQUEST_TIMEOUT, DRAIN_S)
                continue  # The client may have closed meanwhile.
            if now >= self._deadline:
                await self._initiate_server_close()
                break
            self._nap = trio.CancelScope(deadline=min(self._deadline, now + self.config.keep_alive_timeout))
            with self._nap:
                if terminated.is_set():
                    await trio.sleep_forever()
                await terminated.wait()


class _Requests(h11.Connection):
    """Requests, before each of which an empty line may come: old clients end a body with one that is not part of it.
    Bodies have `MAX_BODY_PIECES`."""

    _pieces = 0

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """Never true for Hypercorn, which would answer 100 (Continue) at once. See `Http1.ask_for_body`."""
        return False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            begun, is_closed = self.trailing_data
            if begun == b"\r" and not is_closed:
                return h11.NEED_DATA
            if begun.startswith(b"\r\n"):
                self._receive_buffer.maybe_extract_at_most(2)
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            if self._pieces > MAX_BODY_PIECES:
                self._process_error(self.their_role)
                raise h11.RemoteProtocolError("too many pieces of a body", error_status_hint=413)
        return event


class Http1(H11Protocol):
    """The requests of a connection, one after the other."""

    def __init__(
        self,
        *arguments: Any,
        descriptor: int,
        plain: PlainReads,
        direct: Sequence[DirectRequests],
        refuse: Refuse,
        turns: RequestTurns,
        is_ending: Callable[[], bool],
    ) -> None:
        super().__init__(*arguments)
        self._descriptor = descriptor
        self._plain = plain
        self._direct = direct
        self._refuse = refuse
        self._turns = turns
        self._is_ending = is_ending
        self._turn: Turn | None = None
        self._held = b""
        self._declared = 0
        self._has_asked = False
        self.connection = self._requests()
        self.connection_state[ASK_FOR_BODY] = self.ask_for_body
        self.connection_state[END_TURN] = self.end_turn

    def end_turn(self) -> None:
        """The request runs no longer: it is answered, or waits for its client."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()

    async def handle(self, event: Event) -> None:
        if isinstance(event, Closed):
            self.end_turn()
        if isinstance(event, RawData) and event.data and self._is_at_rest():
            rest = await self._answer_plain(event.data)
            if not rest:
                return
            event = RawData(rest)
        await super().handle(event)

    def _requests(self) -> _Requests:
        return _Requests(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    @property
    def is_last(self) -> bool:
        """Whether the connection takes no more requests."""
        return self._is_ending() or self.keep_alive_requests >= self.config.keep_alive_max_requests

    @property
    def has_begun_head(self) -> bool:
        """Whether a part of a head has come, and no more."""
        connection = self.connection
        return (
            isinstance(connection, h11.Connection)
            and connection.their_state is h11.IDLE
            and bool(connection.trailing_data[0])
        )

    def _is_at_rest(self) -> bool:
        """Whether the next byte begins a request."""
        connection = self.connection
        return (
            self.stream is None
            and isinstance(connection, h11.Connection)
            and connection.our_state is h11.IDLE
            and connection.their_state is h11.IDLE
            and not connection.trailing_data[0]
        )

    async def _answer_plain(self, data: bytes) -> bytes:
        """Answer the plain reads at the beginning of the data; return the rest of the data."""
        start = 0
        while start < len(data):
            found = self._plain.find(data, start)
            if found is None:
                return data[start:]
            start = found.end
            await self.send(Updated(idle=False))
            reply = await self._answered(found)
            self.keep_alive_requests += 1
            is_last = self.is_last
            await self.send(RawData(_encoded(reply, self.config, is_last=is_last)))
            if is_last:
                await self.send(Closed())
                break
            await self.send(Updated(idle=True))
        return b""

    async def _answered(self, read: PlainRead) -> Reply:
        assert self.client is not None
        peer = self.client[0]
        turn = await self._turns.begin(peer, read.headers, read.path)
        if turn is None:
            return self._refuse(ProblemCode.UNAVAILABLE, peer)
        try:
            reply = await read.answer(peer)
        finally:
            turn.end()
        if reply.pause_s:
            await trio.sleep(reply.pause_s)
        return reply

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn goes on to HTTP/2 here."""

    async def _create_stream(self, request: h11.Request) -> None:
        head = accepted_head(request)
        if isinstance(head, ProblemCode):
            await self.send_refusal(head)
            await self.send(Closed())
            return
        self._has_asked = False
        self._declared = next((int(value) for name, value in head.headers if name == b"content-length"), 0)
        for direct in self._direct:
            if found := direct.find(head.method, head.target, head.headers):
                await self._serve_directly(direct, found, head)
                return
        assert self.client is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        path = head.target.partition(b"?")[0].decode("latin-1")
        self._turn = await self._turns.begin(self.client[0], headers, path)
        if self._turn is None:
            await self.send_refusal(ProblemCode.UNAVAILABLE)
            await self.send(Closed())
            return
        await super()._create_stream(head)

    async def _serve_directly(self, direct: DirectRequests, found: Any, head: h11.Request) -> None:
        assert self.client is not None
        self.keep_alive_requests += 1
        wire = _Wire(self, self.client[0], self._descriptor, head, self._declared)
        if await direct.serve(found, wire) and not wire.is_last:
            # h11 has not seen the body.
            self.connection = self._requests()
            if wire.received:  # h11 takes no bytes for the end
                self.connection.receive_data(wire.received)
            await self.send(Updated(idle=True))
        else:
            await self.send(Closed())

    async def ask_for_body(self) -> None:
        """Have the client send the body of its request, for which the application waits."""
        self.end_turn()
        self._has_asked = True
        if self.is_awaiting_body:
            await self.send(_AwaitingBody())
        await self.let_body_come()

    @property
    def is_awaiting_body(self) -> bool:
        """Whether the application waits for the rest of a body."""
        connection = self.connection
        return self._has_asked and isinstance(connection, h11.Connection) and connection.their_state is h11.SEND_BODY

    async def let_body_come(self) -> None:
        """Answer 100 (Continue) to a client that holds the body of its request back, and to no other."""
        if self.is_body_held_back():
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    def is_body_held_back(self) -> bool:
        connection = self.connection
        return isinstance(connection, h11.Connection) and connection.client_is_waiting_for_100_continue

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        connection = self.connection
        if isinstance(event, h11.Response):
            self.end_turn()
        if isinstance(event, h11.Response) and (
            (connection.their_state is h11.SEND_BODY and self._declared > DRAIN_BYTES)
            or self.is_body_held_back()
            or self._is_ending()
        ):
            headers = [*event.headers, (b"connection", b"close")]
            event = h11.Response(status_code=event.status_code, headers=headers)
        try:
            data = connection.send(event)
        except h11.LocalProtocolError:
            if connection.their_state is not h11.ERROR:
                raise
            return
        self._held += data or b""
        is_more = isinstance(event, h11.Response | h11.Data)
        if self._held and (not is_more or len(self._held) >= FLUSH_BYTES):
            held, self._held = self._held, b""
            await self.send(RawData(held))

    async def _send_error_response(self, status_code: int) -> None:
        code = code_of(status_code)
        if code is ProblemCode.HEAD_TOO_LARGE and b"\n" not in self.connection.trailing_data[0]:
            code = ProblemCode.URI_TOO_LONG
        await self.send_refusal(code)

    async def send_refusal(self, code: ProblemCode) -> None:
        """Write the last answer, in its time."""
        assert self.client is not None
        reply = self._refuse(code, self.client[0])
        if reply.pause_s:
            await trio.sleep(reply.pause_s)
        await self.send(RawData(_encoded(reply, self.config, is_last=True)))

    async def _maybe_recycle(self) -> None:
        # In the task of the application, which its stream's end may cancel: that comes last.
        stream, self.stream = self.stream, None
        connection = self.connection
        try:
            if connection.our_state is h11.DONE and connection.their_state is h11.SEND_BODY:
                self.stream = _Drain(self)  # type: ignore[assignment]  # it takes the events of a stream
                await self.send(_Draining())
            elif connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                await self.go_on()
            else:
                await self.send(Closed())
            await self.can_read.set()
        finally:
            if stream is not None:
                await stream.handle(StreamClosed(stream_id=1))

    async def go_on(self) -> None:
        """Serve the next request, after the whole of the last one and of its answer."""
        assert isinstance(self.connection, h11.Connection)
        self.stream = None
        if self.context.terminated.is_set():
            await self.send(Closed())
        else:
            self.connection.start_next_cycle()
            await self.send(Updated(idle=True))


class _Drain:
    """The rest of a request that is answered already."""

    def __init__(self, protocol: Http1) -> None:
        self._protocol = protocol
        self._left = DRAIN_BYTES

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Body):
            self._left -= len(event.data)
            if self._left < 0:
                await self._protocol.send(Closed())
        elif isinstance(event, EndBody):
            await self._protocol.go_on()


class _Wire:
    """The connection of a direct request; `server.http.files.wire` describes it.

    :ivar received: bytes that came behind the head.
    """

    def __init__(self, protocol: Http1, peer: str, descriptor: int, head: h11.Request, declared: int) -> None:
        self.peer = peer
        self.descriptor = descriptor
        names = {name for name, _ in head.headers}
        self.left = None if b"transfer-encoding" in names else declared
        self.status: int | None = None
        self.body_bytes = 0
        self._protocol = protocol
        self.received, _ = protocol.connection.trailing_data
        closing = any(name == b"connection" and b"close" in value.lower() for name, value in head.headers)
        self._is_only = closing or head.http_version != b"1.1"

    @property
    def is_last(self) -> bool:
        return self._is_only or self.left != 0 or self._protocol.is_last

    @property
    def is_body_held_back(self) -> bool:
        return not self.received and self._protocol.is_body_held_back()

    def take_received(self) -> bytes:
        assert self.left is not None
        taken, self.received = self.received[: self.left], self.received[self.left :]
        self.left -= len(taken)
        return taken

    async def ask_for_body(self) -> None:
        await self._protocol.let_body_come()

    async def answer(self, reply: Reply, *, has_body: bool = True) -> None:
        self.status, self.body_bytes = reply.status, len(reply.body) if has_body else 0
        data = _encoded(reply, self._protocol.config, is_last=self.is_last)
        await self._protocol.send(RawData(data if has_body else data[: data.index(b"\r\n\r\n") + 4]))

    async def begin_answer(self, status: int, headers: Mapping[str, str], size_bytes: int) -> None:
        self.status, self.body_bytes = status, size_bytes
        data = _encoded_head(status, headers, size_bytes, self._protocol.config, is_last=self.is_last)
        await self._protocol.send(RawData(data))


_date: tuple[int, bytes] = (0, b"")


def _encoded(reply: Reply, config: Config, *, is_last: bool) -> bytes:
    """An answer in bytes, as h11 writes it."""
    size_bytes = None if reply.status in (204, 304) else len(reply.body)
    return _encoded_head(reply.status, reply.headers, size_bytes, config, is_last=is_last) + reply.body


def _encoded_head(
    status: int, headers: Mapping[str, str], size_bytes: int | None, config: Config, *, is_last: bool
) -> bytes:
    """The head of an answer.

    :param size_bytes: of the body; None: the answer can have none.
    """
    global _date
    second = int(time())
    if _date[0] != second:
        _date = (second, b"".join(b"%b: %b\r\n" % header for header in config.response_headers("h11")))
    lines = [f"HTTP/1.1 {status} \r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if size_bytes is not None:
        lines.append(f"content-length: {size_bytes}\r\n")
    end = b"connection: close\r\n\r\n" if is_last else b"\r\n"
    return b"".join(("".join(lines).encode("latin-1"), _date[1], end))

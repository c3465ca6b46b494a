"""One client's connection, from the WebSocket handshake to its end.

One task serves it: it reads, waits for nothing but the wire, and hands requests to batches, which answer them through
the outbox. One place writes: the outbox. One place closes: `run`, and everything ends there because it has left the
nursery that holds the connection's other tasks (greeting, waiting for a slow peer) before it closes the socket.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, assert_never

import structlog
import trio

from protocol import limits, websocket
from protocol.codec import decode_from_client, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import Bye, Done, Hello, MarkDelivered, MarkRead, Ping, Pong, Request, Send, Welcome
from protocol.session import Session, State
from protocol.websocket import WebSocketError, WebSocketReceiver, close_frame, pong_frame
from server.handshake import open_websocket
from server.outbox import Outbox
from server.replies import error_reply, store_error_reply
from server.stream import ClientStream
from store.accounts import Identity
from store.errors import Overloaded, StoreError, Unavailable

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S: Final = 1.0
"""For the peer to take our close frame, and again for its half of the end; then the socket is closed without it."""


class Gateway(Protocol):
    """What a connection needs of the node it is on."""

    async def identify(self, token: str) -> Identity | None:
        """Who has this token. Raises StoreError."""

    async def register(self, connection: Connection) -> None:
        """From when this returns, on all nodes, the user's pushes are offered here. Raises Unavailable."""

    def unregister(self, connection: Connection) -> None: ...

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        """Raises StoreError if it is refused."""

    def mark_nowait(self, connection: Connection, frame: MarkDelivered | MarkRead) -> None:
        """Raises StoreError if it is refused."""


class Connection:
    """One client.

    :param sock: an accepted, non-blocking socket; owned from here on.
    """

    def __init__(self, gateway: Gateway, sock: socket.socket, address: str) -> None:
        self._gateway = gateway
        self._sock = sock
        self._stream = ClientStream(sock)
        self._address = address
        self._session = Session()
        self._scope = trio.CancelScope()
        self._closing: tuple[int, str] | None = None
        self._is_open = False
        self._bye: int | None = None
        self.in_flight = 0
        self.registered_at = 0.0
        self.user = b""
        self.device = b""
        self.outbox = Outbox(sock, self._start_soon, self._end)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but `trio.Cancelled`."""
        # The deadline runs from accept to hello, so that no half-open handshake of any kind keeps a task.
        self._scope.deadline = trio.current_time() + limits.HELLO_TIMEOUT_S
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    with self._scope:
                        await self._serve()
                    if self._scope.cancelled_caught and self._closing is None:
                        self._closing = (CloseCode.HELLO_TIMEOUT.value, f"no hello within {limits.HELLO_TIMEOUT_S:g} s")
                    await self._say_goodbye()
                    nursery.cancel_scope.cancel()
                finally:
                    # Before the nursery closes: a push that comes later finds no nursery for the outbox's task.
                    self.outbox.cut("closed")
        except* trio.BrokenResourceError:
            pass  # The peer has gone; how it goes is its business.
        finally:
            if self.registered_at:
                self._gateway.unregister(self)
            await self._leave()

    def close(self, code: CloseCode, detail: str) -> None:
        """End the connection soon, telling the peer why. Atomic (no checkpoint)."""
        if self._closing is None:
            self._closing = (code.value, detail)
        self._end()

    def drain(self) -> None:
        """Refuse requests from now on; those in flight are still answered."""
        self._session.drain()

    def _end(self) -> None:
        self._scope.cancel()

    def _start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *args)

    async def _serve(self) -> None:
        data = await open_websocket(self._stream.receive_some, self.outbox.send_raw)
        if data is None:
            return
        self._is_open = True
        receiver = WebSocketReceiver(limits.MAX_WEBSOCKET_MESSAGE_BYTES, limits.MAX_FRAGMENTS)
        data = data or await self._stream.receive_some()
        while data:
            try:
                self._take(receiver, data)
            except WebSocketError as error:
                self._closing = self._closing or (error.close_code, error.detail)
            if self._closing is not None:
                return
            data = await self._stream.receive_some()

    def _take(self, receiver: WebSocketReceiver, data: bytes) -> None:
        """Serve what these bytes complete. Atomic (no checkpoint).

        :raises WebSocketError: if they break the rules of WebSocket; what came before is served.
        """
        pongs = b""
        try:
            for event in receiver.receive(data):
                if self._closing is not None:
                    return
                match event:
                    case bytes():
                        self._take_message(event)
                    case websocket.Ping(payload):
                        pongs += pong_frame(payload)
                    case websocket.Close(code, _):
                        self._closing = (CloseCode.BYE.value if code is None else code, "")
                    case websocket.Pong():
                        pass
                    case _:
                        assert_never(event)
        finally:
            self.outbox.flush()
            if pongs:
                self.outbox.send_raw(pongs)

    def _take_message(self, message: bytes) -> None:
        try:
            for frame in decode_from_client(message):
                self._receive(frame)
        except RemoteProtocolError as error:
            self.close(error.close_code, error.detail)

    def _receive(self, frame: Request | RequestError) -> None:
        try:
            if isinstance(frame, RequestError):
                raise frame
            self._session.receive(frame)
            match frame:
                case Send():
                    self._count(frame.request)
                    self._gateway.send_nowait(self, frame)
                case MarkDelivered() | MarkRead():
                    self._count(frame.request)
                    self._gateway.mark_nowait(self, frame)
                case Ping():
                    self.outbox.offer(encode(Pong(frame.request, time.time_ns() // 1000)))
                case Bye():
                    self._bye = frame.request
                    self._leave_if_idle()
                case Hello():
                    self._start_soon(self._greet, frame)
                case _:
                    assert_never(frame)
        except RequestError as error:
            self.outbox.offer(encode(error_reply(error.request, error.code, error.detail)))
        except StoreError as error:
            self.outbox.offer(encode(store_error_reply(frame.request, error)))
            self.answered()

    def answered(self) -> None:
        """The reply to one request in flight has been offered. Atomic (no checkpoint)."""
        self.in_flight -= 1
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._bye is not None and not self.in_flight and self._closing is None:
            self.outbox.offer(encode(Done(self._bye)))
            self.close(CloseCode.BYE, "")

    def _count(self, request: int) -> None:
        if self.in_flight >= limits.MAX_IN_FLIGHT:
            detail = f"{self.in_flight} requests wait for a reply"
            raise RequestError(request, ErrorCode.TOO_MANY_IN_FLIGHT, detail)
        self.in_flight += 1

    async def _greet(self, hello: Hello) -> None:
        if hello.version < limits.PROTOCOL_VERSION:
            detail = f"version {hello.version}; this server speaks {limits.PROTOCOL_VERSION}"
            self.close(CloseCode.UNSUPPORTED_VERSION, detail)
            return
        try:
            identity = await self._gateway.identify(hello.token)
            if identity is None:
                self.close(CloseCode.UNAUTHENTICATED, "the token is unknown or revoked: log in again")
                return
            self.user, self.device = identity.user, identity.device
            # Pushes may be offered from the moment of registering; they are held until the welcome.
            self.outbox.hold()
            await self._gateway.register(self)
        except (Unavailable, Overloaded) as error:
            log.warning("hello_refused", error=str(error))
            self.close(CloseCode.UNAVAILABLE, "try again")
            return
        except Exception:  # the boundary: a fault here is told to the client, and to nobody else
            log.exception("hello_failed")
            self.close(CloseCode.SERVER_ERROR, "a fault of the server")
            return
        if self._session.state is State.DRAINING:
            return  # The node began to stop meanwhile; the connection is about to be told.
        self._session.welcome()
        self._scope.deadline = float("inf")
        welcome = Welcome(hello.request, identity.now, self.user, self.device, limits.PROTOCOL_VERSION)
        self.outbox.release(encode(welcome))

    async def _say_goodbye(self) -> None:
        """Tell the peer why, if it can still be told; nothing is waited for but the kernel."""
        if self._is_open and self._closing is not None and self.outbox.cut_reason is None:
            self.outbox.end(close_frame(*self._closing))
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self.outbox.wait_flushed()

    async def _leave(self) -> None:
        try:
            if self.outbox.cut_reason == "closed":
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await self._stream.linger()
        finally:
            self._stream.close()

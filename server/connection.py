"""One client's connection, from the WebSocket handshake to its end: the one file that meets trio-websocket.

One task reads (trio-websocket's) and waits for nothing but the wire: it hands requests to batches, which answer them
through the outbox. One place writes: the outbox. One place closes: `run`,
and everything ends there because it has left the nursery that holds the connection's tasks before it closes the socket.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, assert_never

import structlog
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, WebSocketRequest, wrap_server_stream
from wsproto.utilities import ProtocolError as WebSocketError

from protocol import limits
from protocol.codec import decode_from_client, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import Hello, MarkDelivered, Request, Send, Welcome
from protocol.session import Session, State
from server.outbox import Outbox, close_frame
from server.replies import error_reply, store_error_reply
from server.stream import ClientStream
from store.accounts import Identity
from store.errors import Overloaded, StoreError, Unavailable

log = structlog.get_logger(__name__)

INVALID_PAYLOAD = 1007
"""Close code of a text that is no UTF-8 (RFC 6455, section 7.4.1); only text messages, which we refuse, can be that."""

CLOSE_TIMEOUT_S = 1.0
"""For the peer's half of the closing handshake; then the socket is closed without it."""


class Gateway(Protocol):
    """What a connection needs of the node it is on."""

    async def identify(self, token: str) -> Identity | None:
        """Who has this token. Raises StoreError."""

    async def register(self, connection: Connection) -> None:
        """From when this returns, on all nodes, the user's pushes are offered here. Raises Unavailable."""

    def unregister(self, connection: Connection) -> None: ...

    def send_nowait(self, connection: Connection, frame: Send) -> None:
        """Raises StoreError if it is refused."""

    def mark_nowait(self, connection: Connection, frame: MarkDelivered) -> None:
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
        self._closing: tuple[CloseCode, str] | None = None
        self.in_flight = 0
        self.registered_at = 0.0
        self.user = b""
        self.device = b""
        self.outbox = Outbox(sock, self._start_soon, self._end)
        self._stream.outbox = self.outbox
        self._stream.farewell = self._farewell
        self._nursery: trio.Nursery | None = None
        self._websocket: WebSocketConnection | None = None

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but `trio.Cancelled`."""
        # The deadline runs from accept to hello, so that no half-open handshake of any kind keeps a task.
        self._scope.deadline = trio.current_time() + limits.HELLO_TIMEOUT_S
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    with self._scope:
                        self._websocket = await self._accept(nursery)
                        if self._websocket is not None:
                            # All messages go through the inlet; this waits for the end of the connection.
                            await self._websocket.get_message()
                    if self._scope.cancelled_caught and self._closing is None and self.outbox.cut_reason is None:
                        self._closing = (CloseCode.HELLO_TIMEOUT, f"no hello within {limits.HELLO_TIMEOUT_S:g} s")
                    await self._close(self._websocket)
                    nursery.cancel_scope.cancel()
                finally:
                    self._stream.say_farewell()
                    # Before the nursery closes: a push that comes later finds no nursery for the outbox's task.
                    self.outbox.cut("closed")
        except* (ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The peer has gone; how it goes is its business.
        except* (WebSocketError, UnicodeError) as errors:
            # trio-websocket answers a ping while it closes, and wsproto reads all headers as ASCII: both fail in them.
            log.info("websocket_failed", address=self._address, errors=[repr(error) for error in errors.exceptions])
        finally:
            if self.registered_at:
                self._gateway.unregister(self)
            await self._leave()

    def close(self, code: CloseCode, detail: str) -> None:
        """End the connection soon, telling the peer why. Atomic (no checkpoint)."""
        if self._closing is None:
            self._closing = (code, detail)
        self._end()

    def drain(self) -> None:
        """Refuse requests from now on; those in flight are still answered."""
        self._session.drain()

    def _end(self) -> None:
        self._scope.cancel()

    def _start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *args)

    async def _accept(self, nursery: trio.Nursery) -> WebSocketConnection | None:
        request = await wrap_server_stream(
            nursery, self._stream, max_message_size=limits.MAX_WEBSOCKET_MESSAGE_BYTES, receive_buffer_size=None
        )
        refusal = _refusal(request)
        if refusal is not None:
            status, detail = refusal
            await request.reject(status, extra_headers=[(b"content-type", b"text/plain")], body=detail.encode())
            return None
        channel = request._connection._send_channel
        request._connection._send_channel = _Inlet(self._take_message, channel)  # type: ignore[assignment]
        return await request.accept(subprotocol=limits.SUBPROTOCOL)

    def _take_message(self, message: str | bytes) -> None:
        """Serve one WebSocket message. Called by the reader; atomic (no checkpoint)."""
        if self._closing is not None:
            return
        if isinstance(message, str):
            self.close(CloseCode.TEXT_MESSAGE, "this protocol is binary: send CBOR in binary messages")
            return
        try:
            for frame in decode_from_client(message):
                self._receive(frame)
        except RemoteProtocolError as error:
            self.close(error.close_code, error.detail)
        self.outbox.flush()

    def _receive(self, frame: Request | RequestError) -> None:
        try:
            if isinstance(frame, RequestError):
                raise frame
            self._session.receive(frame)
            match frame:
                case Send():
                    self._take(frame.request)
                    self._gateway.send_nowait(self, frame)
                case MarkDelivered():
                    self._take(frame.request)
                    self._gateway.mark_nowait(self, frame)
                case Hello():
                    self._start_soon(self._greet, frame)
                case _:
                    assert_never(frame)
        except RequestError as error:
            self.outbox.offer(encode(error_reply(error.request, error.code, error.detail)))
        except StoreError as error:
            self.in_flight -= 1
            self.outbox.offer(encode(store_error_reply(frame.request, error)))

    def _take(self, request: int) -> None:
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

    async def _close(self, websocket: WebSocketConnection | None) -> None:
        """The closing handshake, as far as the peer plays along; `run` closes the socket in any case."""
        if websocket is None or self.outbox.cut_reason is not None:
            return
        code, detail = self._closing or (CloseCode.SERVER_ERROR, "")
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            # 123 bytes are left for the reason in a control frame (RFC 6455, section 5.5).
            await websocket.aclose(code.value, detail.encode()[:123].decode(errors="ignore"))
            await self.outbox.wait_flushed()

    def _farewell(self) -> bytes:
        """The close frame that trio-websocket leaves out where it cannot read what the peer sent."""
        reason = self._websocket.closed if self._websocket is not None else None
        if reason is None or reason.code not in (CloseCode.PROTOCOL_ERROR.value, INVALID_PAYLOAD):
            return b""
        return close_frame(reason.code, reason.reason or "")

    async def _leave(self) -> None:
        try:
            if self.outbox.cut_reason == "closed":
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await self._stream.linger()
        finally:
            self._stream.close()


class _Inlet:
    """Stands in front of the channel in which trio-websocket's reader hands messages to another task.

    The channel costs two task switches for each message, and bounds nothing here: serving a message is synchronous.
    What is left for it is to say, by being closed, that the connection has ended. trio-websocket has no public way to
    put something in its place; were this one to go, no test of a connection would pass.
    """

    def __init__(self, take: Callable[[str | bytes], None], channel: trio.abc.SendChannel[str | bytes]) -> None:
        self._take = take
        self.aclose = channel.aclose

    async def send(self, message: str | bytes) -> None:
        self._take(message)


def _refusal(request: WebSocketRequest) -> tuple[int, str] | None:
    if request.path.partition("?")[0] != limits.SOCKET_PATH:
        return 404, f"The WebSocket is at {limits.SOCKET_PATH}.\n"
    if limits.SUBPROTOCOL not in request.proposed_subprotocols:
        return 400, f"Ask for the subprotocol {limits.SUBPROTOCOL} (Sec-WebSocket-Protocol).\n"
    return None

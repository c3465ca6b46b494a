"""One WebSocket connection to a gateway: requests and their replies, pushes, the end. The only user of trio-websocket.

One task reads, one writes, and `Connection._close` closes; they live as long as `async with connect(...)`.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias, TypeVar

import msgspec
import trio
import trio_websocket

from client.dial import open_stream
from client.errors import ConnectionLost, NoReply, RequestRefused, Unreachable
from client.nursery import open_service_nursery
from client.pending import Pending
from protocol import limits
from protocol.codec import decode_from_server, encode_request
from protocol.codes import CloseCode
from protocol.errors import RemoteProtocolError
from protocol.frames import (
    Done,
    Error,
    Hello,
    MarkDelivered,
    MarkRead,
    Push,
    Reply,
    Request,
    Send,
    Sent,
    Welcome,
)

CONNECT_TIMEOUT_S: Final = 10.0
"""From looking up the name to `Welcome`; the server's own patience is `limits.HELLO_TIMEOUT_S`."""

REPLY_TIMEOUT_S: Final = 15.0
"""For the reply to one request."""

WRITE_TIMEOUT_S: Final = 30.0
"""For one WebSocket message to be taken by the network; after that the other end is gone or stuck."""

PING_INTERVAL_S: Final = 30.0
"""Silence after which the connection is tried; mobile networks forget idle connections after a minute or more."""

PONG_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
"""For the closing handshake; the server knows enough when the TCP connection ends."""

_NORMAL: Final = 1000
_ABNORMAL: Final = 1006
_MAX_REASON_BYTES: Final = 123

OnPush: TypeAlias = Callable[[Push], Awaitable[None]]
_R = TypeVar("_R", bound=Reply)


@asynccontextmanager
async def connect(
    url: str,
    token: str,
    *,
    on_push: OnPush | None = None,
    version: int = limits.PROTOCOL_VERSION,
    timeout_s: float = CONNECT_TIMEOUT_S,
    ping_interval_s: float = PING_INTERVAL_S,
) -> AsyncGenerator[Connection]:
    """Connect, say hello, be welcomed; closed when the block is left.

    :param url: of the gateway, like `ws://127.0.0.1:8001`; the path is `limits.SOCKET_PATH`.
    :param on_push: awaited for each push, in order of arrival, by the task that reads. While it waits nothing else is
        read, replies included, and sooner or later the server cuts the connection: that is the backpressure.
        `send_channel.send` of a memory channel will do. Without it pushes are dropped. May be called before this
        function has returned: the server may push right after `Welcome`.
    :param timeout_s: up to and including `Welcome`.
    :param ping_interval_s: `math.inf` never pings.
    :raises Unreachable: if there is no server, or it is too slow, or it does not speak this protocol.
    :raises ConnectionLost: if the server closed instead of welcoming, for instance with `UNAUTHENTICATED`.
    """
    async with _open_websocket(url, timeout_s) as (socket, stream, deadline), open_service_nursery() as nursery:
        connection = Connection(socket, stream, on_push)
        nursery.start_soon(connection._read)
        nursery.start_soon(connection._write)
        try:
            connection.welcome = await _say_hello(connection, token, version, deadline - trio.current_time())
            nursery.start_soon(connection._keep_alive, ping_interval_s)
            yield connection
        finally:
            await connection.aclose()


@asynccontextmanager
async def open_raw(url: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncGenerator[Connection]:
    """A connection on which nothing has been said yet, to say the wrong thing: for tests.

    Nothing is written but by `send_bytes` and `request`, nothing is read but by `receive_bytes`.
    """
    async with _open_websocket(url, timeout_s) as (socket, stream, _), open_service_nursery() as nursery:
        connection = Connection(socket, stream, None)
        nursery.start_soon(connection._write)
        try:
            yield connection
        finally:
            await connection.aclose()


class Connection:
    """An open connection; made by `connect`.

    Whatever waits raises `ConnectionLost` when it ends. Any number of tasks may make requests at the same time; beyond
    `limits.MAX_IN_FLIGHT` without a reply they wait. Frames offered before the writer's next turn share one WebSocket
    message.

    :ivar welcome: the server's reply to hello: user, device, its clock.
    """

    welcome: Welcome

    def __init__(
        self, socket: trio_websocket.WebSocketConnection, stream: trio.abc.Stream, on_push: OnPush | None
    ) -> None:
        self._socket = socket
        self._stream = stream
        self._on_push = on_push
        self._pending = Pending()
        self._outgoing: deque[bytes] = deque()
        self._offered = trio.lowlevel.ParkingLot()
        self._end: tuple[int, str] | None = None
        self._ended = trio.Event()
        self._received = 0
        self._is_handling = False
        self._is_closing = False
        self._closed = trio.Event()

    async def send(
        self,
        conversation: bytes,
        content: bytes,
        *,
        temp_id: bytes,
        content_type: str = "application/octet-stream",
        nonce: bytes | None = None,
        ephemeral_public_key: bytes | None = None,
        timeout_s: float = REPLY_TIMEOUT_S,
    ) -> Sent:
        """Send one message; returns when it is committed. Raises what `request` raises.

        :param temp_id: 16 bytes of your choice. To try again, use the same: the message is stored once.
        """
        frame = Send(0, conversation, content_type, content, nonce, ephemeral_public_key, temp_id)
        return _expect(Sent, await self.request(frame, timeout_s=timeout_s))

    async def mark_delivered(self, marks: list[tuple[bytes, int]], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Say that this device has stored conversations up to a `seq` each. Raises what `request` raises.

        :param marks: 1 to `limits.MAX_MARKS` pairs (conversation, seq).
        """
        _expect(Done, await self.request(MarkDelivered(0, marks), timeout_s=timeout_s))

    async def mark_read(self, marks: list[tuple[bytes, int]], *, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Say that the user has read conversations up to a `seq` each. Raises what `request` raises.

        :param marks: 1 to `limits.MAX_MARKS` pairs (conversation, seq).
        """
        _expect(Done, await self.request(MarkRead(0, marks), timeout_s=timeout_s))

    async def request(self, frame: Request, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        """Send a request, return its reply.

        If this is cancelled, the request may or may not take effect; the connection stays usable.

        :param frame: its request number is replaced by the connection's next one.
        :param timeout_s: seconds, waiting for a place among the requests in flight included.
        :raises RequestRefused: if the reply is an error.
        :raises NoReply: if none came in time.
        :raises ConnectionLost: if the connection ended first, or had ended.
        :raises LocalProtocolError: if the server would refuse the frame; nothing was sent.
        """
        with trio.move_on_after(timeout_s):
            reply = await self._request(frame)
            if isinstance(reply, Error):
                raise RequestRefused(reply.code, reply.detail, reply.retry_after_ms)
            return reply
        raise NoReply(f"no reply to {type(frame).__name__} within {timeout_s:g} s")

    async def send_bytes(self, raw: bytes | str) -> None:
        """Send a WebSocket message as it is, bytes as binary, str as text: for tests.

        It overtakes requests that the writer has not written yet. Cancelling it may leave half a message.
        """
        try:
            await self._socket.send_message(raw)
        except trio_websocket.ConnectionClosed as closed:
            raise self._lose_by(closed) from None

    async def receive_bytes(self) -> bytes | str:
        """The next WebSocket message as it is: for tests, after `open_raw` only.

        :raises ConnectionLost: when there are no more.
        """
        try:
            return await self._socket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise self._lose_by(closed) from None

    async def aclose(self) -> None:
        """End the connection, with a closing handshake of at most `CLOSE_TIMEOUT_S`; cancelling skips that."""
        self._lose(_NORMAL, "closed by this client")
        await self._close(_NORMAL, "")

    async def wait_lost(self) -> ConnectionLost:
        """Wait for the end, return (not raise) why."""
        await self._ended.wait()
        return self._lost()

    @property
    def in_flight(self) -> int:
        """Requests without a reply yet, abandoned ones included."""
        return len(self._pending)

    async def _request(self, frame: Request) -> Reply:
        await self._pending.wait_slot()
        if self._end is not None:
            self._pending.release_slot()
            raise self._lost()
        number, waiter = self._pending.add()
        try:
            data = encode_request(msgspec.structs.replace(frame, request=number))
        except BaseException:
            self._pending.drop(number)
            raise
        self._outgoing.append(data)
        self._offered.unpark()
        await waiter.done.wait()
        if waiter.reply is None:
            raise self._lost()
        return waiter.reply

    async def _read(self) -> None:
        try:
            while True:
                data = await self._socket.get_message()
                self._received += 1
                if isinstance(data, str):
                    raise RemoteProtocolError(CloseCode.TEXT_MESSAGE, "the server sent a text message")
                for frame in decode_from_server(data):
                    await self._handle(frame)
        except trio_websocket.ConnectionClosed as closed:
            lost = self._lose_by(closed)
            await self._close(lost.close_code, "")
        except RemoteProtocolError as error:
            self._lose(error.close_code.value, error.detail)
            await self._close(error.close_code.value, error.detail)

    async def _handle(self, frame: Reply | Push) -> None:
        if not isinstance(frame, Push):
            self._pending.resolve(frame)
        elif self._on_push is not None:
            self._is_handling = True
            await self._on_push(frame)
            self._is_handling = False

    async def _write(self) -> None:
        while True:
            while not self._outgoing:
                await self._offered.park()
            try:
                with trio.fail_after(WRITE_TIMEOUT_S):
                    await self._socket.send_message(self._take_batch())
            except trio_websocket.ConnectionClosed as closed:
                self._lose_by(closed)
                return
            except trio.TooSlowError:
                self._lose(_ABNORMAL, f"the network took nothing for {WRITE_TIMEOUT_S:g} s")
                await trio.aclose_forcefully(self._stream)
                return

    def _take_batch(self) -> bytes:
        """As many frames as fit into one WebSocket message, at least one; they leave the queue."""
        batch = [self._outgoing.popleft()]
        size = len(batch[0])
        while self._outgoing and size + len(self._outgoing[0]) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES:
            size += len(self._outgoing[0])
            batch.append(self._outgoing.popleft())
        return b"".join(batch)

    async def _keep_alive(self, interval_s: float) -> None:
        while self._end is None:
            received = self._received
            await trio.sleep(interval_s)
            # While `on_push` waits nothing is read, so no pong could be seen either.
            if self._received != received or self._is_handling:
                continue
            with trio.move_on_after(PONG_TIMEOUT_S) as scope:
                try:
                    await self._socket.ping()
                except trio_websocket.ConnectionClosed as closed:
                    self._lose_by(closed)
            if scope.cancelled_caught:
                self._lose(_ABNORMAL, f"no pong within {PONG_TIMEOUT_S:g} s")
                await trio.aclose_forcefully(self._stream)

    def _lose(self, close_code: int, reason: str) -> None:
        """Take note of the end and wake all who wait. The first one to say why is believed."""
        if self._end is None:
            self._end = (close_code, reason)
            self._ended.set()
            self._outgoing.clear()
            self._pending.end()

    def _lose_by(self, closed: trio_websocket.ConnectionClosed) -> ConnectionLost:
        if closed.reason is None:
            self._lose(_ABNORMAL, "")
        else:
            self._lose(closed.reason.code, closed.reason.reason or "")
        return self._lost()

    def _lost(self) -> ConnectionLost:
        # A new one each time: an exception that is raised in many tasks mixes their tracebacks.
        assert self._end is not None
        return ConnectionLost(*self._end)

    async def _close(self, close_code: int, reason: str) -> None:
        """Do the closing handshake if there is still somebody to do it with, and drop the TCP connection.

        trio-websocket's reader ends with the stream, so this ends everything. Cancelling skips the handshake. Who comes
        second waits for the first: dropping the stream under a handshake would make it a broken connection.
        """
        if self._is_closing:
            await self._closed.wait()
            return
        self._is_closing = True
        try:
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
                await self._socket.aclose(close_code, text or None)
        finally:
            self._closed.set()
            await trio.aclose_forcefully(self._stream)


async def _say_hello(connection: Connection, token: str, version: int, timeout_s: float) -> Welcome:
    try:
        return _expect(Welcome, await connection.request(Hello(0, token, version), timeout_s=max(timeout_s, 0)))
    except (NoReply, RequestRefused, RemoteProtocolError) as error:
        raise Unreachable(f"hello was not answered with welcome: {error}") from None


def _expect(type_: type[_R], reply: Reply) -> _R:
    if isinstance(reply, type_):
        return reply
    detail = f"the server answered with {type(reply).__name__} instead of {type_.__name__}"
    raise RemoteProtocolError(CloseCode.BAD_FRAME, detail)


@asynccontextmanager
async def _open_websocket(
    url: str, timeout_s: float
) -> AsyncGenerator[tuple[trio_websocket.WebSocketConnection, trio.abc.Stream, float]]:
    """A WebSocket after its handshake, the stream below it, and the moment (Trio's clock) at which patience ends."""
    deadline = trio.current_time() + timeout_s
    try:
        with trio.fail_at(deadline):
            stream, host = await open_stream(url)
    except trio.TooSlowError:
        raise Unreachable(f"{url} did not answer within {timeout_s:g} s") from None
    except (OSError, ValueError, ssl.SSLError, trio.BrokenResourceError) as error:
        raise Unreachable(f"{url}: {error}") from error
    socket = None
    try:
        async with open_service_nursery() as nursery:
            with trio.move_on_at(deadline):
                socket = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,
                    host,
                    limits.SOCKET_PATH,
                    subprotocols=[limits.SUBPROTOCOL],
                    max_message_size=limits.MAX_WEBSOCKET_MESSAGE_BYTES,
                    receive_buffer_size=64 * 1024,
                )
            if socket is None:
                raise Unreachable(f"{url} did not complete the WebSocket handshake within {timeout_s:g} s")
            if socket.subprotocol != limits.SUBPROTOCOL:
                raise Unreachable(f"{url} does not speak {limits.SUBPROTOCOL}")
            yield socket, stream, deadline
    except trio_websocket.ConnectionRejected as error:
        raise Unreachable(f"{url} answered with status {error.status_code}") from None
    finally:
        await trio.aclose_forcefully(stream)

"""One WebSocket connection to a gateway: requests and their replies, pushes, the end.

One task reads, one writes, and `ClientConnection._close` closes; they live as long as `async with connect(...)`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import msgspec
import trio
import trio_websocket

from client import VERSION
from client.errors import ConnectionLost, NoReply, RequestRefused, Unreachable
from client.nursery import open_service_nursery
from client.pending import Pending
from client.requests import REPLY_TIMEOUT_S, Requests, expect
from client.stream import HeardStream
from client.websocket import open_websocket
from protocol import limits
from protocol.codec import decode_from_server, encode_request
from protocol.codes import CloseCode
from protocol.errors import RemoteProtocolError
from protocol.frames import (
    Bye,
    Error,
    Hello,
    Push,
    Reply,
    Request,
    Welcome,
    name_of,
)

NAME: Final = f"alo-python/{VERSION}"
"""The name of this library in `hello`, unless the program gives its own."""

CONNECT_TIMEOUT_S: Final = 10.0
"""From looking up the name to `Welcome`; the server's own patience is `limits.HELLO_TIMEOUT_S`."""

WRITE_TIMEOUT_S: Final = 30.0
"""The time in which the network must take one WebSocket message; after that the other end is gone or stuck."""

PAGES_AHEAD: Final = 16
"""The pages of news for one request: about 1.5 MiB for each round trip. Other requests that read wait for them."""

CLOSE_TIMEOUT_S: Final = 2.0
"""For the closing handshake; the server knows enough when the TCP connection ends."""

ABNORMAL: Final = 1006
"""The close code of a connection that has ended without a close frame."""

_NORMAL: Final = 1000
_MAX_REASON_BYTES: Final = 123

OnPush: TypeAlias = Callable[[Push], Awaitable[None]]


@asynccontextmanager
async def connect(
    url: str,
    token: str,
    *,
    on_push: OnPush | None = None,
    cursor: bytes | None = None,
    pages: int | None = None,
    version: int = limits.PROTOCOL_VERSION,
    client: str = NAME,
    timeout_s: float = CONNECT_TIMEOUT_S,
    keep_alive_s: float | None = None,
) -> AsyncGenerator[ClientConnection]:
    """Connect, say hello, be welcomed. When the block is left, `bye`; when an error leaves it, `aclose` alone.

    :param url: of the gateway, like `ws://127.0.0.1:8001`; the path is `limits.SOCKET_PATH`.
    :param on_push: awaited for each push, in order of arrival, by the task that reads. While it waits, the connection
        reads nothing, replies included, and sooner or later the server cuts the connection: that is the backpressure.
        `send_channel.send` of a memory channel is enough. Without it pushes are dropped. It may be called before this
        function has returned: the server may push right after `Welcome`.
    :param cursor: the server pushes the news since then right after `Welcome`, up to a `Cursor` (or a `Lag`: then
        `sync`).
    :param version: the greatest that this client speaks.
    :param client: name and version of the program, for the statistics of the server's operator.
    :param pages: the greatest number of pages of news; each ends with a `Cursor`. One, if left out.
    :param timeout_s: up to and including `Welcome`.
    :param keep_alive_s: the silence after which the client pings, and after the same time again gives the server up; as
        `welcome` says, if left out. `math.inf` never pings.
    :raises Unreachable: if no server answers, or it is too slow, or it does not speak this protocol.
    :raises ConnectionLost: if the server closed instead of welcoming, for instance with `UNAUTHENTICATED`; with
        `UNSUPPORTED_VERSION` also if this client cannot speak the version that the server has chosen.
    """
    async with open_websocket(url, timeout_s) as (socket, stream, deadline), open_service_nursery() as nursery:
        connection = ClientConnection(socket, stream, on_push)
        nursery.start_soon(connection._read)
        nursery.start_soon(connection._write)
        try:
            hello = Hello(0, token, version, cursor, pages=pages, client=client)
            connection.welcome = await _say_hello(connection, hello, deadline - trio.current_time())
            await _check_version(connection, version)
            told_s = connection.welcome.keep_alive_ms / 1000
            nursery.start_soon(connection._keep_alive, told_s if keep_alive_s is None else keep_alive_s)
            yield connection
            await connection.bye()
        finally:
            await connection.aclose()


@asynccontextmanager
async def open_raw(url: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncGenerator[ClientConnection]:
    """A connection without a `hello`, for tests that send wrong bytes.

    Only `send_bytes` and `request` write to it, and only `receive_bytes` reads from it.
    """
    async with open_websocket(url, timeout_s) as (socket, stream, _), open_service_nursery() as nursery:
        connection = ClientConnection(socket, stream, None)
        nursery.start_soon(connection._write)
        try:
            yield connection
        finally:
            await connection.aclose()


class ClientConnection(Requests):
    """An open connection; made by `connect`.

    All waiting calls raise `ConnectionLost` when it ends. Any number of tasks may make requests at the same time;
    beyond `limits.MAX_IN_FLIGHT` without a reply they wait. Frames offered before the writer's next turn share one
    WebSocket message.

    :ivar welcome: the server's reply to hello: user, device, its clock, until when the token is good.
    :ivar features: the names of the server's features (`protocol/SPEC.md`, 11.1).
    :ivar limits: the server's limits, by name (11.2).
    """

    welcome: Welcome

    def __init__(self, socket: trio_websocket.WebSocketConnection, stream: HeardStream, on_push: OnPush | None) -> None:
        self._socket = socket
        self._stream = stream
        self._on_push = on_push
        self._pending = Pending()
        self._outgoing: deque[bytes] = deque()
        self._offered = trio.lowlevel.ParkingLot()
        self._end: tuple[int, str] | None = None
        self._ended = trio.Event()
        self._is_handling = False
        self._is_leaving = False
        self._is_closing = False
        self._closed = trio.Event()

    async def bye(self, *, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Leave: the server answers the requests in flight and closes. Raises nothing if it does not.

        A connection that has ended stays as it is. Afterwards, or when this is cancelled, `aclose` it.
        """
        if self._end is not None or self._is_leaving:
            return
        with trio.move_on_after(timeout_s):
            try:
                await self.request(Bye(0), timeout_s=timeout_s)
            except (RequestRefused, ConnectionLost, NoReply):
                return  # It is about to end, or has done so.
            await self._ended.wait()

    async def request(self, frame: Request, *, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        """Send a request, return its reply.

        If this is cancelled, the request may or may not take effect; the connection stays usable.

        :param frame: its request number is replaced by the connection's next one.
        :param timeout_s: seconds, including the wait for a place among the requests in flight.
        :raises RequestRefused: if the reply is an error.
        :raises NoReply: if none came in time.
        :raises ConnectionLost: if the connection ended first, or had ended.
        :raises LocalProtocolError: if the server would refuse the frame; nothing was sent.
        """
        with trio.move_on_after(timeout_s):
            reply = await self._request(frame)
            if isinstance(reply, Error):
                raise RequestRefused(reply)
            return reply
        raise NoReply(f"no reply to `{name_of(frame)}` within {timeout_s:g} s")

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

        :raises ConnectionLost: at the end.
        """
        try:
            return await self._socket.get_message()
        except trio_websocket.ConnectionClosed as closed:
            raise self._lose_by(closed) from None

    async def aclose(self) -> None:
        """End the connection at once, also with requests in flight: see `bye`.

        The closing handshake takes at most `CLOSE_TIMEOUT_S`; cancelling skips it.
        """
        self._lose(_NORMAL, "closed by this client")
        await self._close(_NORMAL, "")

    async def wait_lost(self) -> ConnectionLost:
        """Wait for the end, return (not raise) why."""
        await self._ended.wait()
        return self._lost()

    @property
    def features(self) -> frozenset[str]:
        return frozenset(self.welcome.features or ())

    @property
    def limits(self) -> dict[str, int]:
        return dict(self.welcome.limits or ())

    @property
    def in_flight(self) -> int:
        """Requests without a reply yet, abandoned ones included."""
        return len(self._pending)

    async def _request(self, frame: Request) -> Reply:
        await self._pending.wait_slot()
        if self._end is not None or self._is_leaving:
            self._pending.release_slot()
            raise self._lost()
        self._is_leaving = isinstance(frame, Bye)
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
                self._lose(ABNORMAL, f"the network took nothing for {WRITE_TIMEOUT_S:g} s")
                await trio.aclose_forcefully(self._stream)
                return

    def _take_batch(self) -> bytes:
        """Take as many frames from the queue as fit into one WebSocket message, at least one."""
        batch = [self._outgoing.popleft()]
        size = len(batch[0])
        while self._outgoing and size + len(self._outgoing[0]) <= limits.MAX_WEBSOCKET_MESSAGE_BYTES:
            size += len(self._outgoing[0])
            batch.append(self._outgoing.popleft())
        return b"".join(batch)

    async def _keep_alive(self, interval_s: float) -> None:
        while self._end is None:
            if self._is_handling:
                # While `on_push` waits, nothing is read, so a sign of life could not be seen either.
                await trio.sleep(interval_s)
            elif (quiet_until := self._stream.heard_at + interval_s) > trio.current_time():
                await trio.sleep_until(quiet_until)
            else:
                await self._try_other_side(interval_s)

    async def _try_other_side(self, patience_s: float) -> None:
        tried_at = trio.current_time()
        with trio.move_on_after(patience_s):
            try:
                await self._socket.ping()
            except trio_websocket.ConnectionClosed as closed:
                self._lose_by(closed)
        if self._stream.heard_at < tried_at and not self._is_handling:
            self._lose(ABNORMAL, f"no byte came, not even a pong within {patience_s:g} s")
            await trio.aclose_forcefully(self._stream)

    def _lose(self, close_code: int, reason: str) -> None:
        """The connection has ended: wake all waiting calls. The first cause counts."""
        if self._end is None:
            self._end = (close_code, reason)
            self._ended.set()
            self._outgoing.clear()
            self._pending.end()

    def _lose_by(self, closed: trio_websocket.ConnectionClosed) -> ConnectionLost:
        if closed.reason is None:
            self._lose(ABNORMAL, "")
        else:
            self._lose(closed.reason.code, closed.reason.reason or "")
        return self._lost()

    def _lost(self) -> ConnectionLost:
        # A new one each time: one exception raised in several tasks mixes their tracebacks.
        return ConnectionLost(*(self._end or (_NORMAL, "this client has said bye")))

    async def _close(self, close_code: int, reason: str) -> None:
        """Do the closing handshake if the peer is still there, and drop the TCP connection.

        trio-websocket's reader ends with the stream, so this ends everything. Cancelling skips the handshake. A second
        caller waits for the first: dropping the stream during a handshake would break the connection.
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


async def _say_hello(connection: ClientConnection, hello: Hello, timeout_s: float) -> Welcome:
    try:
        return expect(Welcome, await connection.request(hello, timeout_s=max(timeout_s, 0)))
    except (NoReply, RequestRefused) as error:
        raise Unreachable(f"hello was not answered with welcome: {error}") from None
    except RemoteProtocolError as error:
        raise Unreachable(f"hello was not answered with welcome: {error.detail}") from None


async def _check_version(connection: ClientConnection, asked: int) -> None:
    version = connection.welcome.version
    if not limits.OLDEST_VERSION <= version <= asked:
        await connection.bye()
        detail = f"the server speaks version {version} of the protocol, this client {limits.OLDEST_VERSION} to {asked}"
        raise ConnectionLost(CloseCode.UNSUPPORTED_VERSION.value, detail)

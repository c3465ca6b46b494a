"""The sockets of the server double: two addresses on loopback, and the bytes of each connection.

One task reads a connection and one writes it. `DoubleConnection` makes all decisions; this module waits for bytes and
moves them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from protocol import limits
from protocol.codes import CloseCode
from protocol.conformance import handshake
from protocol.conformance.double import Double
from protocol.conformance.own_writes import Violation
from protocol.conformance.peer import Action, ConnectionEnd, DoubleConnection
from protocol.websocket import (
    Close,
    Ping,
    Pong,
    WebSocketError,
    WebSocketReceiver,
    close_frame,
    pong_frame,
)

GATEWAYS: Final = 2
"""A client gets this number of addresses, and connects to any of them."""

HEAD_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 0.5
"""After a close frame the double waits so long for that of the client, and then ends the TCP connection."""

_RECEIVE_BYTES: Final = 64 * 1024
_LOST: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Gateways:
    """The addresses of a double, and the connections to them.

    :ivar peers: of the open connections, by number.
    :ivar refusals: the answers to the next opening handshakes: (status, seconds of Retry-After, or None).
    :ivar piece_bytes: the bytes of each piece in which connections are written; None: as they come.
    :ivar fragment_bytes: the payload of each WebSocket frame, for connections that come from now on; None: whole
        messages.
    :ivar is_mute: connections read and write nothing until `unmute`.
    :ivar violation: the first rule that the client has broken.
    """

    def __init__(self, double: Double, nursery: trio.Nursery) -> None:
        self.double: Final = double
        self.peers: dict[int, DoubleConnection] = {}
        self.refusals: deque[tuple[int, int | None]] = deque()
        self.piece_bytes: int | None = None
        self.fragment_bytes: int | None = None
        self.is_mute = False
        self.violation: Violation | None = None
        self._nursery = nursery
        self._count = 0
        self._unmuted = trio.lowlevel.ParkingLot()
        self.urls: Final[list[str]] = []

    async def listen(self) -> None:
        """Listen on free ports of 127.0.0.1."""
        for gateway in range(GATEWAYS):
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.urls.append(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}")
            self._nursery.start_soon(trio.serve_listeners, self._handler(gateway), [listener])

    def _handler(self, gateway: int) -> Callable[[trio.SocketStream], Awaitable[None]]:
        async def handle(stream: trio.SocketStream) -> None:
            self._count += 1
            connection = _Connection(self, stream, self._count, gateway)
            try:
                await connection.run()
            finally:
                self.peers.pop(connection.peer.number, None)
                await trio.aclose_forcefully(stream)
                self.double.hear(connection.peer.number, gateway, {"type": "ended"})

        return handle

    def unmute(self) -> None:
        self.is_mute = False
        self._unmuted.unpark_all()

    async def wait_while_mute(self) -> None:
        while self.is_mute:
            await self._unmuted.park()

    def blame(self, violation: Violation) -> None:
        """The client has broken a rule: the scenario fails by the first one."""
        self.violation = self.violation or violation
        self.double.on_change()


@asynccontextmanager
async def open_gateways(double: Double) -> AsyncGenerator[Gateways]:
    """The gateways, until the block is left; their connections are cut then."""
    async with trio.open_nursery() as nursery:
        gateways = Gateways(double, nursery)
        await gateways.listen()
        yield gateways
        nursery.cancel_scope.cancel()


class _Connection:
    """One TCP connection."""

    def __init__(self, gateways: Gateways, stream: trio.SocketStream, number: int, gateway: int) -> None:
        self.peer = DoubleConnection(gateways.double, self._act, number, gateway)
        self.peer.fragment_bytes = gateways.fragment_bytes
        self._gateways = gateways
        self._stream = stream
        self._actions: deque[Action] = deque()
        self._acted = trio.lowlevel.ParkingLot()
        self._unread = b""
        self._has_closed = trio.Event()

    async def run(self) -> None:
        """From the handshake to the end. Raises nothing: the network may do anything."""
        with suppress(*_LOST):
            if await self._shake_hands():
                self._gateways.peers[self.peer.number] = self.peer
                async with trio.open_nursery() as nursery:
                    for move in (self._read, self._write):
                        nursery.start_soon(self._move, move, nursery.cancel_scope)

    async def _move(self, move: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """Move bytes in one direction, and end the other direction with it."""
        with suppress(*_LOST):
            await move()
        scope.cancel()

    def _hear(self, type_: str, **more: object) -> None:
        self._gateways.double.hear(self.peer.number, self.peer.gateway, {"type": type_, **more})

    async def _shake_hands(self) -> bool:
        """Answer the opening handshake; returns whether there is a WebSocket now."""
        head = b""
        with trio.move_on_after(HEAD_TIMEOUT_S):
            while handshake.END not in head and len(head) <= handshake.MAX_HEAD_BYTES:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
                if not data:
                    return False
                head += data
        head, _, self._unread = head.partition(handshake.END)
        if self._gateways.refusals:
            status, retry_after_s = self._gateways.refusals.popleft()
            self._hear("refused", status=status)
            await self._stream.send_all(handshake.refusal(status, "A scenario refuses this.", retry_after_s))
            return False
        try:
            answer = handshake.accept(head)
        except handshake.WrongHandshake as wrong:
            self._gateways.blame(Violation(wrong.section, str(wrong)))
            await self._stream.send_all(handshake.refusal(wrong.status, str(wrong)))
            return False
        self._hear("connected")
        await self._stream.send_all(answer)
        return True

    async def _read(self) -> None:
        receiver = WebSocketReceiver(limits.MAX_WEBSOCKET_MESSAGE_BYTES, limits.MAX_FRAGMENTS)
        data: bytes | bytearray = self._unread or await self._stream.receive_some(_RECEIVE_BYTES)
        while data:
            try:
                for event in receiver.receive(bytes(data)):
                    await self._gateways.wait_while_mute()
                    self._take(event)
            except WebSocketError as error:
                section = "1.2" if error.close_code == CloseCode.TEXT_MESSAGE.value else "1.1"
                self._gateways.blame(Violation(section, f"the client sends a wrong WebSocket frame: {error.detail}"))
                return
            except Violation as violation:
                self._gateways.blame(violation)
                return
            data = await self._stream.receive_some(_RECEIVE_BYTES)

    def _take(self, event: bytes | Ping | Pong | Close) -> None:
        match event:
            case bytes():
                self.peer.receive(event)
            case Ping(payload=payload):
                self._act(pong_frame(payload))
            case Pong(payload=payload):
                self._hear("websocket_pong", payload=payload)
            case Close(code=code):
                self._hear("websocket_close", code=code)
                self._has_closed.set()
                self.peer.close(code or CloseCode.BYE.value)

    def _act(self, action: Action) -> None:
        self._actions.append(action)
        self._acted.unpark_all()

    async def _write(self) -> None:
        while True:
            while not self._actions:
                await self._acted.park()
            await self._gateways.wait_while_mute()
            action = self._actions.popleft()
            if isinstance(action, ConnectionEnd):
                await self._end(action)
                return
            await self._send(action)

    async def _send(self, data: bytes) -> None:
        size = self._gateways.piece_bytes or len(data)
        for start in range(0, len(data), size):
            await self._stream.send_all(data[start : start + size])

    async def _end(self, ending: ConnectionEnd) -> None:
        if ending.code is None:
            return
        await self._send(close_frame(ending.code, ending.reason))
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._has_closed.wait()

"""One client's connection: bytes of a socket on one side, an adapter on the other."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from bench import websocket
from bench.adapters import Adapter
from bench.adapters.base import FIRST_SEND
from bench.websocket import MessageReader, Opcode, ServerFault

if TYPE_CHECKING:
    from bench.mixture import OperationKind
    from bench.workload import Chat

CONNECT_TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 65536


class Reports(Protocol):
    """A connection's reports to the generator."""

    def acked(self, connection: LoadConnection, chat: Chat, stamp: float) -> None: ...
    def passed(self, connection: LoadConnection, messages: int) -> None: ...
    def delivered(self, connection: LoadConnection, stamp: float) -> None: ...
    def failed(self, why: str) -> None: ...


class LoadConnection:
    """Implements `adapters.Events`.

    :ivar is_open: whether the server has said that sends may begin.
    :ivar in_flight: the sends without a reply, by number: their chat, and when they should have left.
    :ivar asked: what to call when the reply to another operation comes, by number.
    :ivar mark_pending: whether the generator has planned to ask the adapter for its marks.
    """

    __slots__ = (
        "_adapter",
        "_epoll",
        "_next_request",
        "_reader",
        "_reports",
        "_socket",
        "_unsent",
        "asked",
        "in_flight",
        "is_open",
        "mark_pending",
    )

    def __init__(
        self,
        url: str,
        epoll: select.epoll,
        reports: Reports,
        make: Callable[[LoadConnection], Adapter],
        *,
        segment_bytes: int | None = None,
    ) -> None:
        """Connect and shake hands, which blocks.

        :param segment_bytes: the largest TCP segment to accept; None accepts loopback's 64 KiB.
        :raises OSError: if the server cannot be reached.
        :raises ServerFault: if the server refuses the handshake.
        """
        self._epoll, self._reports = epoll, reports
        self._adapter = make(self)
        self._reader = MessageReader()
        self._unsent = b""
        self._next_request = FIRST_SEND
        self.in_flight: dict[int, tuple[Chat, float]] = {}
        self.asked: dict[int, Callable[[], None]] = {}
        self.is_open = self.mark_pending = False
        self._socket, rest = _connect(url, self._adapter, segment_bytes)
        epoll.register(self._socket, select.EPOLLIN)
        self._adapter.start()
        self._take(rest)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def ports(self) -> tuple[int, int]:
        """The TCP ports of this end and of the other."""
        return int(self._socket.getsockname()[1]), int(self._socket.getpeername()[1])

    def send(self, chat: Chat, stamp: float) -> None:
        """Send the chat a message that should have left at `stamp`."""
        request = self._next_request
        self._next_request += 1
        self.in_flight[request] = (chat, stamp)
        self.reply(self._adapter.send(request, chat.conversation, stamp))

    def operate(self, kind: OperationKind, conversation: str, done: Callable[[], None]) -> bool:
        """Send an operation other than a send. Returns false if there is nothing to mark.

        :param kind: one that the adapter can do.
        :param done: called when the reply has come, or at once if there will be none.
        """
        request = self._next_request
        if not (payload := self._adapter.operation(kind, request, conversation)):
            return False
        self._next_request += 1
        self.reply(payload)
        if kind in self._adapter.unanswered:
            done()
        else:
            self.asked[request] = done
        return True

    def send_marks(self) -> None:
        """Mark the messages received since the last call."""
        if marks := self._adapter.take_marks():
            self.reply(marks)

    def ready(self, events: int) -> bool:
        """Read or write the socket, which is ready. Returns whether the connection goes on."""
        try:
            if events & select.EPOLLOUT:
                self._epoll.modify(self._socket, select.EPOLLIN)
                unsent, self._unsent = self._unsent, b""
                self._write(unsent)
            if events & ~select.EPOLLOUT:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise ServerFault("the server ended the connection")
                self._take(data)
        except BlockingIOError:
            return True
        except (OSError, ServerFault) as error:
            self._reports.failed(f"connection lost: {error}")
            self.close()
            return False
        return True

    def close(self) -> None:
        """Close the socket without a close frame."""
        self.is_open = False
        self._epoll.unregister(self._socket)
        self._socket.close()

    # Reports of the adapter.

    def opened(self) -> None:
        self.is_open = True

    def acked(self, request: int) -> None:
        if (sent := self.in_flight.pop(request, None)) is not None:
            self._reports.acked(self, *sent)
        elif (done := self.asked.pop(request, None)) is not None:
            done()
        else:
            self._reports.failed(f"an ack of {request}, which is not in flight")

    def delivered(self, stamp: float) -> None:
        self._reports.delivered(self, stamp)

    def passed(self, messages: int) -> None:
        self._reports.passed(self, messages)

    def failed(self, why: str) -> None:
        self._reports.failed(why)

    def reply(self, payload: bytes) -> None:
        self._write(websocket.encode(self._adapter.opcode, payload))

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._reader.feed(data):
            if opcode <= Opcode.BINARY:
                self._adapter.receive(payload)
            elif opcode == Opcode.PING:
                self._write(websocket.encode(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                code = int.from_bytes(payload[:2], "big")
                raise ServerFault(f"close code {code} {payload[2:].decode(errors='replace')}")

    def _write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the next read reports the error
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._epoll.modify(self._socket, select.EPOLLIN | select.EPOLLOUT)


def _connect(url: str, adapter: Adapter, segment_bytes: int | None) -> tuple[socket.socket, bytes]:
    """A non-blocking socket after the handshake, and the bytes that the server has already sent after its answer."""
    address = urlsplit(url)
    if address.hostname is None or address.port is None:
        raise ValueError(f"{url} is not ws://HOST:PORT")
    connected = socket.socket()
    try:
        connected.settimeout(CONNECT_TIMEOUT_S)
        if segment_bytes is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment_bytes)
        connected.connect((address.hostname, address.port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.sendall(websocket.handshake(address.netloc, adapter.target(), adapter.subprotocol))
        answer = b""
        while (end := websocket.handshake_end(answer)) is None:
            data = connected.recv(_READ_BYTES)
            if not data:
                raise ServerFault("the server ended the connection instead of shaking hands")
            answer += data
    except BaseException:
        connected.close()
        raise
    connected.setblocking(False)
    return connected, answer[end:]
